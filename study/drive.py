"""A study from its file to its report: search, freeze, replicate, open the test split, report.

Every stage asks the database what is done already and does the rest, so `run` and `resume` are one way
begun at different places, and being killed anywhere costs the epochs since the last validation. A study
goes on as its file said when it was launched or amended last (study.revision).
"""

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType

from kge.catalog import load
from kge.data import passport
from kge.fitting import Evaluation
from study.arms import Arms, Search
from study.config import StudyConfig, parse_study
from study.environment import environment
from study.errors import StudyExistsError, UnequalError, UserError, WorldError
from study.evidence import write_report
from study.fetching import fetch_models, fetch_ranks
from study.history import ledger_over, study_record, trial_records
from study.lease import LOST, Hold
from study.nodes import Slots
from study.object_store import CHECKPOINTS, ObjectStore, forgetting, remote_of
from study.opening import Closed, TestJob, open_test, progress, record_test, untested
from study.records import Continuation, Outcome, ReplicateRecord, Selection
from study.replicate import ReplicateWork
from study.report import hardware
from study.revision import Revision, revised, written
from study.runner import Cluster
from study.search import SearchWork
from study.selection import current, freeze
from study.site import Site
from study.space import Space, compose_all
from study.store import Registration, Store
from study.tracking.process import Mirror
from study.trial import at_hand, forget, nodes_dataset, rank_test_split, same_dataset, same_starts, with_start
from study.work import ArmProgress, InTurn, Stop, Work

ASKED = "`study stop`"
MIRROR_PATIENCE = 120.0  # seconds that a finished study waits for MLflow's last round; an interrupted one waits less


@dataclass(frozen=True, kw_only=True)
class Audience:
    """Who is told: of an arm's progress, and of the study's in sentences."""

    progress: Callable[[ArmProgress], None]
    say: Callable[[str], None]


def run(
    config: StudyConfig, site: Site, *, remote: ObjectStore | None = None, address: str, audience: Audience
) -> bool:
    """Begin a study and bring it to its report; False when it was interrupted before."""
    if site.has_study():
        raise StudyExistsError(f"study {site.name!r} exists; `study resume {site.name}` continues it")
    site.check_fresh()
    registration = declare(config, site.name)
    facts = {}
    if remote is not None:
        remote.check(new=True)
        facts[CHECKPOINTS] = remote.url
    stop = Stop()
    with stopping(stop), Cluster.of(config, address=address, stop=stop, say=audience.say) as cluster:
        cluster.connect()  # the last thing that can refuse the study before anything is written
        registration = replace(registration, environment={**registration.environment, **facts, **cluster.facts()})
        site.folder.mkdir(parents=True, exist_ok=True)
        with closing(Store(site.database)) as store:
            store.register_study(registration, file=str(Path(config.document.path).resolve()))
            # Entered again to be left before the lease is: who takes over then meets no worker of ours.
            with driving(site, store, stop, say=audience.say) as hold, cluster:
                return Drive(site, store, registration, cluster, stop, audience, hold).search_to_report()


def resume(
    site: Site,
    *,
    revision: Revision,
    address: str,
    audience: Audience,
    search: bool = True,
    unequal: bool = False,
) -> bool:
    """Take a study up where it is and bring it to its report; without search, the search must have ended.

    Where budgets differ the test split stays closed, and UnequalError comes at the end, unless `unequal` is said.
    """
    stop = Stop()
    with closing(site.open()) as store:
        launched = store.registration(site.name)
        remote = remote_of(launched.environment)
        if remote is not None:  # the folder may have been on a disk that is no more
            site.folder.mkdir(parents=True, exist_ok=True)
        elif not site.folder.is_dir():
            raise UserError(f"--home: must be the folder that holds {site.name!r} and its checkpoints, got {site.home}")
        revised(store, site.name, revision)  # what it refuses leaves no trace
        with stopping(stop), driving(site, store, stop, say=audience.say) as hold:
            same_dataset(launched.dataset, launched.passport)
            plan = revised(store, site.name, revision)
            if remote is not None:
                remote.check(new=False)
            with Cluster.of(_config(plan.study), address=address, stop=stop, say=audience.say) as cluster:
                if plan.amendment is not None:
                    cluster.connect()  # the last thing that can refuse an amendment before it is written
                registration = written(store, plan, say=audience.say)
                drive = Drive(site, store, registration, cluster, stop, audience, hold, unequal=unequal)
                return drive.search_to_report() if search else drive.replicate_to_report()


def _note_environment(store: Store, study: Registration, *, say: Callable[[str], None]) -> None:
    """Write down what the study goes on with, where that is not what it had before."""
    earlier, now = store.continuations(study.name), environment()
    changes = hardware.changed(earlier[-1].environment if earlier else study.environment, now)
    if changes:
        note = Continuation(number=len(earlier) + 1, environment=now, time=time.time())
        store.record_continuation(study.name, note)
        say(f"going on with: {'; '.join(changes)}")


def declare(config: StudyConfig, name: str) -> Registration:
    """All that is fixed when a study begins; composes and checks every space, loads the data set."""
    spaces, dataset = compose_all(config), load(config.dataset)
    return Registration(
        name=name,
        spec=config.text,
        spec_sha256=config.sha256,
        seed=config.seed,
        dataset=config.dataset,
        passport=passport(dataset),
        arms=tuple(with_start(arm, spaces[arm.name], dataset) for arm in config.arms),
        spaces=tuple(spaces[arm.name].card() for arm in config.arms),
        budget=config.budget,
        budget_unit=config.budget_unit,
        replicates=config.replicates,
        identical_errors=config.identical_errors,
        pruning=(config.pruning.min_epochs, config.pruning.reduction_factor) if config.pruning else None,
        environment=environment(),
        created=time.time(),
    )


def _config(study: Registration) -> StudyConfig:
    return parse_study(study.spec, f"study {study.name}", dataset=study.dataset)


@contextmanager
def stopping(stop: Stop) -> Iterator[None]:
    """Make the first SIGINT or SIGTERM a request to stop; the second does what it always does."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _: FrameType | None) -> None:
        stop(signal.Signals(number).name)
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def driving(site: Site, store: Store, stop: Stop, *, say: Callable[[str], None]) -> Iterator[Hold]:
    """Be the study's one driver, with a log of its own."""
    held = store.lease(site.name).held(on_lost=lambda: stop(LOST), on_stop=lambda: stop(ASKED), say=say)
    with held as hold, logged(site.folder / "driver.log"):
        yield hold


@contextmanager
def logged(file: Path) -> Iterator[None]:
    """Send what programs log and print to a file; the terminal is for the study."""
    with file.open("a", buffering=1) as stream:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root = logging.getLogger()
        root.addHandler(handler)
        try:
            with redirect_stdout(stream), redirect_stderr(stream):
                yield
        finally:
            root.removeHandler(handler)


class Drive:
    """One driver's way through a study; each stage returns False when it was told to stop."""

    def __init__(
        self,
        site: Site,
        store: Store,
        registration: Registration,
        cluster: Cluster,
        stop: Stop,
        audience: Audience,
        hold: Hold,
        *,
        unequal: bool = False,
    ) -> None:
        self._site = site
        self._store = store
        self._study = registration
        self._config = _config(registration)
        self._cluster = cluster
        self._stop = stop
        self._audience = audience
        self._hold = hold
        self._unequal = unequal
        self._closed: Closed | None = None  # where the test split was not opened
        self._remote = remote_of(registration.environment)
        self._fingerprint = str(registration.passport["fingerprint"])
        self._forget: Callable[[Path], object] = forget
        cards = {card.arm: card for card in registration.spaces}
        self._spaces = {arm.name: Space.of(arm, cards[arm.name]) for arm in registration.arms}

    def search_to_report(self) -> bool:
        """Every stage; where all is done, only MLflow is brought up to it, and the report written again."""
        with self._arms() as arms, self._forgetting():
            work = InTurn(self._works(arms))
            if work.is_done and self._is_tested():
                self._audience.say(f"study {self._site.name} is finished, nothing is left to train or to rank")
            with self._mirrored():
                return self._train(work) and self._test() and self._report()

    def replicate_to_report(self) -> bool:
        """Every stage but the search, which must have ended."""
        with self._arms() as arms, self._forgetting():
            if not self._search(arms).is_done:
                name = self._site.name
                raise UserError(f"study {name!r}: its search must have ended; `study resume {name}` goes on with it")
            with self._mirrored():
                return self._train(self._replication(arms)) and self._test() and self._report()

    def _works(self, arms: Arms) -> Iterator[Work]:
        yield self._search(arms)
        yield self._replication(arms)

    def _train(self, work: Work) -> bool:
        if not work.is_done:
            same_starts(self._study.arms)
            self._begin()
            placed = partial(self._store.record_place, self._study.name)
            self._cluster.execute(work, fingerprint=self._fingerprint, remote=self._remote, placed=placed)
        return self._goes_on()

    def _begin(self) -> None:
        """What a study goes on with is of interest only where something goes on."""
        self._cluster.connect()
        _note_environment(self._store, self._study, say=self._audience.say)

    def _search(self, arms: Arms) -> SearchWork:
        study = self._study
        return SearchWork(
            study=study.name,
            folder=self._site.folder,
            store=self._store,
            arms=arms,
            spaces=self._spaces,
            ledger=ledger_over(study),
            config=self._config,
            listen=self._audience.progress,
            forget=self._forget,
        )

    def _replication(self, arms: Arms) -> ReplicateWork:
        """Freezes the selections first."""
        return ReplicateWork(
            study=self._study.name,
            seed=self._study.seed,
            folder=self._site.folder,
            store=self._store,
            selections=self._freeze(arms),
            replicates=self._study.replicates,
            sources={arm.name: arm.source for arm in self._study.arms if arm.source is not None},
            listen=self._audience.progress,
            forget=self._forget,
        )

    def _freeze(self, arms: Arms) -> list[Selection]:
        trials = trial_records(self._store, arms, self._study)
        folder, study = self._site.folder, self._study.name
        selections = freeze(self._store, study=study, folder=folder, spaces=self._spaces, trials=trials)
        for arm in self._spaces.keys() - {selection.arm for selection in selections}:
            self._audience.say(f"{arm}: no trial completed, so there is nothing to select and nothing to replicate")
        return selections

    def _is_tested(self) -> bool:
        selections = current(self._store.selections(self._study.name))
        return not untested(self._store, study=self._study.name, folder=self._site.folder, selections=selections)

    def _test(self) -> bool:
        folder, study, remote = self._site.folder, self._study.name, self._remote
        self._hold.check()
        record = study_record(self._site.database, study)
        jobs, self._closed = open_test(self._store, record=record, folder=folder, unequal=self._unequal)
        device, fingerprint = Slots.of(self._config.resources).device, self._fingerprint

        def rank(job: TestJob) -> Evaluation | Outcome:
            with at_hand(job.checkpoint, folder, remote) as checkpoint:
                return rank_test_split(checkpoint, nodes_dataset(job.dataset, fingerprint), device=device)

        if jobs:
            self._begin()
            self._audience.say(f"ranking the test split: {len(jobs)} replicates")
            for arm in dict.fromkeys(job.replicate.arm for job in jobs):
                self._audience.progress(progress(arm, jobs, []))
            done: list[ReplicateRecord] = []
            for job, found in self._cluster.map(rank, jobs):
                self._hold.check()
                done.append(record_test(self._store, study=study, folder=folder, remote=remote, job=job, found=found))
                self._audience.progress(progress(job.replicate.arm, jobs, done))
        return self._goes_on()

    def _report(self) -> bool:
        record, folder = study_record(self._site.database, self._study.name), self._site.folder
        fetch_ranks(record, folder, self._audience.say)
        fetch_models(record, folder, self._audience.say)
        write_report(record, folder=folder, out=folder / "report", say=self._audience.say)
        self._audience.say(f"report: {folder / 'report' / 'index.html'}")
        if self._closed:
            which, why = ", ".join(self._closed.arms), self._closed.why
            raise UnequalError(f"study {record.name!r}: the test split stays closed for {which}. {why}")
        return True

    def _goes_on(self) -> bool:
        if self._stop.reason == LOST:
            raise WorldError(f"study {self._site.name!r}: {LOST}")
        return self._stop.reason is None

    @contextmanager
    def _arms(self) -> Iterator[Arms]:
        search = Search(seed=self._study.seed, config=self._config.search, spaces=self._spaces)
        with closing(Arms(self._site.database, self._study.name, search)) as arms, self._hold.fence(arms.engine):
            yield arms

    @contextmanager
    def _forgetting(self) -> Iterator[None]:
        """Checkpoints that are kept afar are deleted beside the work."""
        if self._remote is None:
            yield
            return
        with forgetting(self._remote, self._site.folder) as self._forget:
            yield

    @contextmanager
    def _mirrored(self) -> Iterator[None]:
        """MLflow follows in a process of its own and never holds the study up."""
        mirror = Mirror.start(name=self._study.name, home=self._site.home, database=self._site.database)
        try:
            yield
        finally:
            patience = MIRROR_PATIENCE if self._stop.reason is None else MIRROR_PATIENCE / 10
            if not mirror.finish(timeout=patience):
                self._audience.say(f"MLflow is not up to date; `study sync {self._study.name}` sends the rest")
