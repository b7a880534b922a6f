"""When a study is hit: a name for people, and the events that lead there.

The events are told by tests/crash/inject/sitecustomize.py, inside the process that is to be hit at the last of
them. A study meets the moments of a list one in each life, so each life begins where the one before died.
"""

from dataclasses import dataclass

BEGUN = r"after commit: insert kge_attempts .*'RUNNING', '',"
CHARGED = r"after commit: insert kge_charges "
TOLD = r"after commit: insert trial_intermediate_values "
COMPLETE = r"commit: insert kge_attempts .*'COMPLETE'"
PRUNED = r"commit: insert kge_attempts .*'PRUNED'"
FORGOTTEN = r"after remove: .*/last\.pt$"
BEST = r"rename: .*/best\.pt$"
LAST = r"rename: .*/last\.pt$"


@dataclass(frozen=True)
class Moment:
    """Where a process is hit, and how."""

    name: str
    events: tuple[str, ...]
    role: str = "driver"  # or "worker"
    signal: str = "SIGKILL"
    whole_group: bool = False  # with all that the driver has started, Ray above all
    power_cut: bool = False  # with the mirror, too, which sees the driver die and sends what there is

    @property
    def hit(self) -> str:
        """What is hit, in words."""
        who = "everything" if self.power_cut else "driver and its group" if self.whole_group else self.role
        return who if self.signal == "SIGKILL" else f"{self.signal} to {who}"


def at(name: str, *events: str) -> Moment:
    """A moment at which the driver alone dies."""
    return Moment(name, events)


def all_at(name: str, *events: str) -> Moment:
    """A moment at which the driver dies with all that it has started."""
    return Moment(name, events, whole_group=True)


def everything_at(name: str, *events: str) -> Moment:
    """A moment at which the power is cut."""
    return Moment(name, events, whole_group=True, power_cut=True)


def worker_at(name: str, *events: str) -> Moment:
    """A moment at which one worker dies."""
    return Moment(name, events, role="worker")


def interrupt_at(name: str, *events: str, signal: str = "SIGINT") -> Moment:
    """A moment at which somebody presses Ctrl-C, or ends the driver politely."""
    return Moment(name, events, signal=signal)


START_UP = (
    at("Ray half started", r"before start: .*/raylet/raylet "),
    at("tables made, study not written", r"before commit: insert kge_studies "),
    at("study written, not leased", r"before commit: insert kge_lease "),
    at("leased, nothing else", r"after commit: insert kge_lease "),
    at("lease taken over from the dead", r"after commit: update kge_lease "),
    at("one arm known to Optuna", r"after commit: insert studies .*complex\.sce"),
    at("before the mirror starts", r"before start: .* -m study\.tracking\.worker "),
    all_at("Ray half started, in a resume", r"before start: .*/raylet/raylet "),
    at("trial being written", r"before commit: insert trials "),
    at("trial written, no attempt", r"after commit: insert trials "),
    at("attempt begun", BEGUN),
)
TRAINING = (
    at("checkpoint on disk, not charged", r"before commit: insert kge_charges "),
    at("charged, Optuna not told", CHARGED),
    everything_at("in the middle of a trial", BEGUN, TOLD, TOLD),
)
PRUNING = (
    at("pruning decided, not written", f"before {PRUNED}"),
    at("pruning written", f"after {PRUNED}"),
    at("pruning written, state not told", BEGUN, f"after {PRUNED}", r"before commit: update trials .*'PRUNED'"),
)
COMPLETION = (
    at("measured to the end, outcome not written", f"before {COMPLETE}"),
    at("outcome written", f"after {COMPLETE}"),
    at("settling it: one attribute told", r"after commit: insert trial_user_attributes .*'best_mrr'"),
    at("settling it: state not told", r"before commit: update trials .*'COMPLETE'"),
    all_at("outcome written (2)", BEGUN, f"after {COMPLETE}"),
    at("settling it: state told, last.pt there", r"before remove: .*/last\.pt$"),
    at("trial ended, before the next ask", BEGUN, f"after {COMPLETE}", FORGOTTEN),
    at("two attributes told", BEGUN, f"after {COMPLETE}", r"after commit: insert trial_user_attributes .*'best_epoch'"),
    at("attributes told, state not", BEGUN, f"after {COMPLETE}", r"before commit: update trials .*'COMPLETE'"),
    at("state told, last.pt there", BEGUN, f"after {COMPLETE}", r"after commit: update trials .*'COMPLETE'"),
    all_at("trial ended (2)", BEGUN, f"after {COMPLETE}", FORGOTTEN),
    at("next trial written, no attempt", BEGUN, f"after {COMPLETE}", r"after commit: insert trials "),
)
SELECTION = (
    at("selection of one arm frozen", r"after commit: insert kge_selections .*'complex\.sce'"),
    at("frozen, selection.json not in place", r"before rename: .*/selection\.json$"),
    all_at("frozen, before the first replicate", r"after rename: .*/selection\.json$"),
)
REPLICATION = (
    at("replicate written, no attempt", r"after commit: insert kge_replicates .*'RUNNING'"),
    at("replicate charged once", CHARGED),
    all_at("in the middle of a replicate", BEGUN, CHARGED, CHARGED),
    at("replicate: outcome written", f"after {COMPLETE}"),
    at("replicate settled, last.pt there", BEGUN, r"before remove: .*/replicates/.*/last\.pt$"),
    at("replicate ended, before the next", BEGUN, FORGOTTEN),
)
TEST = (
    at("test of one arm opened", r"after commit: insert kge_openings .*'complex\.sce'"),
    at("test opened, nothing ranked", r"after commit: insert kge_openings .*'distmult\.sce'"),
    at("ranks on disk, metrics not written", r"after rename: .*/ranks/.*\.parquet$"),
    all_at("one replicate tested", r"after commit: insert kge_replicates .*\"mrr\""),
)
REPORT = (
    everything_at("report: nothing in place", r"before rename: .*/report/index\.html$"),
    all_at("report: half in place", r"after rename: .*/report/trials\.csv$"),
    at("report in place, lease held", r"after rename: .*/report/record\.json$"),
)
WORKERS = (
    worker_at("first checkpoint half written", f"before {BEST}"),
    worker_at("best.pt in place, last.pt not", f"after {LAST}", f"after {LAST}", f"after {BEST}", f"before {LAST}"),
    worker_at("checkpoint in place, not told", *4 * [f"after {LAST}"]),
    worker_at("in the middle of a replicate", *2 * [r"after rename: .*/replicates/.*/last\.pt$"]),
)
INTERRUPTIONS = (
    interrupt_at("Ray half started", r"before start: .*/raylet/raylet "),
    interrupt_at("leased, nothing else", r"after commit: insert kge_lease "),
    interrupt_at("in the middle of a trial", BEGUN, TOLD, TOLD),
    interrupt_at("outcome written", f"after {COMPLETE}", signal="SIGTERM"),
    interrupt_at("frozen, before the first replicate", r"after rename: .*/selection\.json$"),
    interrupt_at("test opened", r"after commit: insert kge_openings .*'distmult\.sce'", signal="SIGTERM"),
)
STOPS = (  # of the driver of a study whose recorded timeline is looked at
    at("in the middle of a trial", BEGUN, *4 * [TOLD]),
    all_at("outcome written", BEGUN, f"after {COMPLETE}"),
    at("trial written, no attempt", BEGUN, f"after {COMPLETE}", r"after commit: insert trials "),
)
