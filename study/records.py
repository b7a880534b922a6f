"""Frozen values that cross processes and files: plain numbers, strings and tuples.

An arm is tuned by trials; a trial is executed by attempts; an attempt yields measurements and ends
in an outcome; the frozen best of an arm is its selection; replicates train the selection again with
fresh seeds. A StudyRecord holds all of it; a report reads it, and the ranks and slices of study.evidence.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Value = int | float | str | bool | None
Params = Mapping[str, Value]  # dotted TrainingConfig path -> sampled value
BUDGET = "budget"  # how the reason of a trial begins that ended because its arm's budget did
TEST_SPLIT = "test split"  # ... of a replicate whose test queries could not be ranked
WORKERS_LOST = "lost its worker"  # ... of one that the cluster broke
IN_FLOAT32 = ", in float32 instead of bfloat16"  # how a device ends that does not multiply what was asked for


class TrialState(StrEnum):
    """Where a trial stands; the last three are final."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"

    @property
    def is_final(self) -> bool:
        """True when the trial will never change again."""
        return self is not TrialState.RUNNING


class FailureClass(StrEnum):
    """Why a trial broke; only `infrastructure` is retried and never charged."""

    INFRASTRUCTURE = "infrastructure"
    MEMORY = "memory"
    DIVERGENCE = "divergence"
    BUG = "bug"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What was spent, in all three units at once."""

    trials: int = 0
    epochs: int = 0
    device_seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            trials=self.trials + other.trials,
            epochs=self.epochs + other.epochs,
            device_seconds=self.device_seconds + other.device_seconds,
        )


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What is compared: data set x model x loss, with its training type and fixed options."""

    name: str  # unique in the study and safe as a folder name, e.g. "complex.sce_ls" or "transe-l1.ns"
    dataset: str
    model: str
    loss: str
    training_type: str
    objective: str  # what the loss aims at with this training type and these options: "p_d", "p_d/p_y", "smoothed", ...
    fixed: tuple[tuple[str, Value], ...] = ()  # TrainingConfig paths that this arm holds fixed
    source: str | None = None  # the arm whose best trial its trainings start from
    checkpoint: str | None = None  # the file whose tables its trainings start from
    checkpoint_sha256: str = ""  # of that file when the arm was declared; studies from before did not ask
    pretraining: Cost = field(default_factory=Cost)  # what that file took, charged before the first trial

    @property
    def starts_elsewhere(self) -> bool:
        """True where its tables are not drawn at random."""
        return self.source is not None or self.checkpoint is not None


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One attempt of a trial or replicate, as a worker receives it."""

    study: str
    arm: str
    stage: str  # "search" or "replicate"
    trial: int  # trial number within the arm; the replicate's index when stage is "replicate"
    attempt: int  # 0 for the first execution
    config: Mapping[str, object]  # nested TrainingConfig mapping, complete
    folder: str  # of the study; where relative paths of the configuration start
    directory: str  # where this trial keeps its checkpoints, the same for every attempt


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One validation of a trial; the charge it carries is what was spent since the previous one."""

    arm: str
    trial: int
    epoch: int
    mrr: float  # filtered by train + valid, realistic ranks, both sides
    metrics: tuple[tuple[str, float], ...]  # the other validation metrics, by name
    loss: float  # mean training loss of the last epoch
    epochs: int  # epochs since the previous measurement
    device_seconds: float  # device-seconds since the previous measurement
    time: float  # unix time, seconds; in a search later than those that its arm's driver heard before

    @property
    def cost(self) -> Cost:
        """The charge that it carries; its trial is charged as one elsewhere."""
        return Cost(epochs=self.epochs, device_seconds=self.device_seconds)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an attempt ended; `failure` is set exactly when the state is FAIL."""

    state: TrialState
    failure: FailureClass | None = None
    reason: str = ""  # "max_epochs", "early_stopping", "budget: ...", "pruned at epoch 9", or the error in one line
    unmeasured: Cost = field(default_factory=Cost)  # spent since the last measurement; by a lost worker, all its time


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an attempt ran; unknown for one that was lost before its first validation."""

    arm: str
    stage: str
    trial: int
    attempt: int
    node: str  # Ray's own id of it
    host: str
    device: str  # the kind that trained: "NVIDIA H100 80GB HBM3", or the processor; and IN_FLOAT32 where it was so

    @property
    def kind(self) -> str:
        """The kind of device, whatever it computed in."""
        return self.device.removesuffix(IN_FLOAT32)


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial with its whole history."""

    arm: str
    number: int
    state: TrialState
    params: tuple[tuple[str, Value], ...]
    seed: int  # of the training
    random: bool  # drawn in the arm's i.i.d. random part
    epochs: int  # reserved when it started: its own max_epochs, or what was left of an epochs budget
    best_mrr: float | None  # best validation of the trial; None when nothing was measured
    best_epoch: int | None
    attempts: int
    failure: FailureClass | None
    reason: str
    cost: Cost
    curve: tuple[Measurement, ...]
    started: float | None  # unix times, seconds
    ended: float | None
    source: int | None = None  # the trial of its arm's source whose tables it starts from
    pretraining: Cost = field(
        default_factory=Cost
    )  # charged beside an arm's first trial for what all of them start from

    @property
    def charged(self) -> Cost:
        """All that its arm was charged when it ran."""
        return self.pretraining + self.cost

    @property
    def is_selectable(self) -> bool:
        """May it become its arm's selection? A trial that was pruned or broke may not, whatever it reached."""
        return self.state is TrialState.COMPLETE and self.best_mrr is not None

    @property
    def is_truncated(self) -> bool:
        """True when it ended because its arm's budget did, and not by its own curve."""
        return self.reason.startswith(BUDGET)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The frozen best of an arm, written before the test split is opened."""

    arm: str
    trial: int
    epoch: int
    valid_mrr: float
    config: Mapping[str, object]
    sha256: str  # of the canonical JSON of the fields above
    time: float
    number: int = 0  # 0 is the first; a study that was amended may select again


@dataclass(frozen=True, kw_only=True)
class ReplicateRecord:
    """A selection trained again with a fresh seed and, when done, ranked on the test split."""

    arm: str
    index: int  # counts on over the selections of an arm, so that no seed is used twice
    selection_sha256: str
    seed: int
    state: TrialState
    best_epoch: int | None
    valid_mrr: float | None
    test_metrics: tuple[tuple[str, float], ...]  # empty until tested
    cost: Cost
    ranks_file: str | None  # parquet of per-query ranks, relative to the study's folder
    reason: str = ""
    attempts: int = 0  # these three as the attempts have them (study.history)
    failure: FailureClass | None = None
    started: float | None = None  # unix time, seconds

    @property
    def broke(self) -> bool:
        """True when its training or ranking failed and the cluster did not: another seed of it may fail as well."""
        return self.state is TrialState.FAIL and not self.reason.startswith(WORKERS_LOST)


@dataclass(frozen=True, kw_only=True)
class Opening:
    """One opening of the test split: for these replicates of a selection, now and when a crash interrupts it."""

    arm: str
    number: int  # 0 is the first, the only one unless `--reopen` was said
    selection_sha256: str
    replicates: tuple[int, ...]  # by index
    time: float
    amendment: int = 0  # the latest when it was opened; 0: the study as launched


@dataclass(frozen=True, kw_only=True)
class Amendment:
    """A change of the study file after the study had begun."""

    number: int  # from 1
    spec: str  # the study file from then on, verbatim
    spec_sha256: str
    changes: tuple[str, ...]  # each in one line: "budget.trials: 10 -> 20"
    reopens: bool  # said with `--reopen`
    time: float


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """A resumption of a study on other programs or another machine than the ones before."""

    number: int  # from 1
    environment: Mapping[str, str]
    time: float


@dataclass(frozen=True, kw_only=True)
class ArmStop:
    """Why an arm gets no more trials although its budget is not spent."""

    arm: str
    errors: int  # identical ones; 0: it had nothing to start from
    reason: str

    @property
    def said(self) -> str:
        """Why, in a sentence."""
        return f"{self.errors} trials broke by {self.reason}" if self.errors else self.reason


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One tuned value of an arm's search space, in words and numbers for the space card."""

    path: str
    kind: str  # "float", "int" or "categorical"
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Value, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SpaceCard:
    """What an arm tunes and what it holds fixed."""

    arm: str
    tuned: tuple[Dimension, ...]
    fixed: tuple[tuple[str, Value], ...]
    switches: tuple[tuple[str, str, tuple[Value, ...]], ...] = ()  # what is tuned, what must be which value for it

    def has_effect(self, path: str, params: Params) -> bool:
        """Whether a tuned path decides anything beside these values of the others."""
        needed = ((switch, values) for tuned, switch, values in self.switches if tuned == path)
        return all(switch not in params or params[switch] in values for switch, values in needed)


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Which tuned values mattered in an arm (study.importance)."""

    arm: str
    trials: int  # completed ones that it knows
    shares: tuple[tuple[str, float], ...] = ()  # by path
    withheld: str = ""  # why there are none


@dataclass(frozen=True, kw_only=True)
class SliceRecord:
    """Test MRR of the replicates of an arm on the queries that have something in common."""

    arm: str
    by: str  # "category", "relation", "answer_frequency" or "anchor_frequency", as in kge.slices
    name: str
    side: str  # "both", "head" or "tail"
    queries: int
    mrr: float  # mean over seeds
    std: float | None


@dataclass(frozen=True, kw_only=True)
class ComparisonPlan:
    """Which arms are compared, and from when on one is called better: declared with the study."""

    pairs: tuple[tuple[str, str], ...] | None = None  # of arms; None: all of them
    confidence: float = 0.95
    better: float = 0.75  # probability that one beats the other


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """All that is known of a study; everything a report needs."""

    name: str
    spec: str  # the study file as amended, verbatim
    spec_sha256: str
    launched_sha256: str  # of the study file before all amendments
    seed: int
    dataset: str
    passport: Mapping[str, object]  # counts, fingerprint and warnings of the data set
    arms: tuple[Arm, ...]
    spaces: tuple[SpaceCard, ...]
    budget: Cost  # per arm; only the declared unit is non-zero
    budget_unit: str  # "trials", "epochs" or "device_seconds"
    replicates: int
    identical_errors: int | None  # an arm stops after as many; None: never
    pruning: tuple[int, int] | None  # min_epochs and reduction_factor of the rungs; None: nothing is pruned
    environment: Mapping[str, str]  # versions, hardware, git commit when it began
    created: float
    trials: tuple[TrialRecord, ...]
    selections: tuple[Selection, ...]
    replicate_records: tuple[ReplicateRecord, ...]
    openings: tuple[Opening, ...]
    amendments: tuple[Amendment, ...] = ()
    stops: tuple[ArmStop, ...] = ()
    imported_from: str = ""  # the table of another tool's trials (study.external), of which spec_sha256 is the hash
    comparison: ComparisonPlan = field(default_factory=ComparisonPlan)
    continuations: tuple[Continuation, ...] = ()
    places: tuple[Place, ...] = ()  # of search and replicates; none in databases from before they were recorded
    wasted: Cost = field(default_factory=Cost)  # measured again after it had been charged, and charged to nobody

    @property
    def dataset_name(self) -> str:
        """What people call the data set: of a folder its name, whose path says nothing elsewhere."""
        return str(self.passport.get("name") or self.dataset)

    def environment_at(self, time: float | None) -> Mapping[str, str]:
        """Versions, hardware and git commit of what began then, in unix seconds; None: when the study did."""
        noted = [each.environment for each in self.continuations if time is not None and each.time <= time]
        return noted[-1] if noted else self.environment

    def trials_of(self, arm: str) -> tuple[TrialRecord, ...]:
        """The trials of an arm, in the order of the record."""
        return tuple(trial for trial in self.trials if trial.arm == arm)

    def space_of(self, arm: str) -> SpaceCard | None:
        """What an arm tunes; None in the table of another tool."""
        return next((card for card in self.spaces if card.arm == arm), None)

    def current_selection(self, arm: str) -> Selection | None:
        """The arm's selection that counts: the latest."""
        made = (selection for selection in self.selections if selection.arm == arm)
        return max(made, key=lambda each: each.number, default=None)

    def current_replicates(self, arm: str) -> tuple[ReplicateRecord, ...]:
        """The replicates of the arm's current selection."""
        chosen = self.current_selection(arm)
        current = chosen.sha256 if chosen else None
        return tuple(r for r in self.replicate_records if (r.arm, r.selection_sha256) == (arm, current))
