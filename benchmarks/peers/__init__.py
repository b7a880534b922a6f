"""The same work in several libraries, in one run and in turn: who needs how long, and how long it must take.

    cases       what is measured
    contest     who takes part, and the order of turns
    floors      the least work of each, and how long this machine needs for it
    turns       how a worker is asked for batches, whatever library it runs
    ours, pykeen_side, libkge_side, ceilings      the workers, a process each
    rows        what was measured as a table
    profile     where the time of ours goes

No worker but `ours` imports kge: LibKGE's package has the same name.
"""
