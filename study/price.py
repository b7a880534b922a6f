"""What a study costs, known before it starts: the size of its largest trainings, and device-hours by measured prices.

    device-hours of an arm = (epochs of its search + epochs of its replicates) x price / 3600
                             (of a budget in device-seconds: that budget, and the replicates)
    price                  = seconds of an epoch on a kind of device (kge.pace), when it has the device for itself

A price belongs to a configuration: the middle of an arm's space, and its dearest, where all that makes a training
larger is at its end and batches are smallest. Prices lie in a JSON file by kind of device and by the hash of the
configuration, so an arm whose space has changed has none, and arms that train alike share theirs.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import torch

from kge.catalog import load
from kge.config import PretrainConfig, TrainingConfig
from kge.documents import parse_config, to_mapping
from kge.errors import first_line
from kge.files import write_atomically
from kge.footprint import Sizes, predicted
from kge.pace import Pace, paces
from kge.sources import SOURCES
from study.budget import amount, most_epochs, most_repeated
from study.config import StudyConfig
from study.environment import environment
from study.errors import UserError
from study.records import Dimension, Params, Value
from study.space import Space, quantile

MIDDLE, DEAREST = "middle", "dearest"
_BATCH = "training.batch_size"
_SIZED = ("model.dim", "model.re", "training.", "negatives.", "optimizer.name", "regularizer.")  # what memory follows
_FORMAT = 1
_ROUNDS = 2  # timings of each configuration; the quicker one counts


@dataclass(frozen=True, kw_only=True)
class Largest:
    """The training of an arm that takes most memory, in bytes by formula."""

    arm: str
    params: Params
    cpu: int
    cuda: int


@dataclass(frozen=True, kw_only=True)
class Case:
    """A configuration of an arm that has a price."""

    arm: str
    name: str  # MIDDLE or DEAREST
    config: TrainingConfig

    @property
    def sha256(self) -> str:
        """Of all that decides how long it takes."""
        return hashlib.sha256(json.dumps(to_mapping(self.config), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Price:
    """A measured price, and by which program."""

    arm: str  # that it was measured for
    case: str
    seconds: float  # of an epoch, its share of a validation included
    batches: int  # that were timed
    torch: str
    commit: str


Prices = Mapping[str, Mapping[str, Price]]  # kind of device -> hash of the configuration -> price


@dataclass(frozen=True, kw_only=True)
class ArmHours:
    """Device-hours of an arm where all its trainings are as dear as one case; None: without a price."""

    arm: str
    seconds: float | None  # of an epoch
    search: float | None
    replicates: float | None

    @property
    def all(self) -> float:
        """Of both."""
        return (self.search or 0) + (self.replicates or 0)


def sizes(name: str) -> Sizes:
    """Those of a data set; a published one need not be here."""
    if name not in SOURCES:
        return Sizes.of(load(name))
    source = SOURCES[name]
    splits = {split: source.triples[split] for split in ("train", "valid")}
    return Sizes(entities=source.entities, relations=source.relations, **splits)


def largest(space: Space, of: Sizes) -> Largest:
    """By going from the middle of the space to the end of each dimension where the training is larger there."""

    def peak(params: Params, device: str) -> int:
        return predicted(_training(space, params), of, device=device).peak

    params = _extreme(space, lambda params: max(peak(params, device) for device in ("cpu", "cuda")))
    return Largest(arm=space.arm.name, params=params, cpu=peak(params, "cpu"), cuda=peak(params, "cuda"))


def middle(space: Space) -> Params:
    """The middle of every dimension."""
    return space.draw(lambda _: 0.5)


def cases(space: Space, big: Largest) -> tuple[Case, Case]:
    """The middle of an arm's space, and its dearest configuration."""
    smallest = {each.path: min(_ends(each)) for each in space.tuned if each.path == _BATCH}  # type: ignore[type-var]
    dearest = {**big.params, **smallest}
    return tuple(  # type: ignore[return-value]
        Case(arm=space.arm.name, name=name, config=_training(space, params))
        for name, params in ((MIDDLE, middle(space)), (DEAREST, dearest))
    )


@dataclass(frozen=True, kw_only=True)
class Timer:
    """Where prices are measured."""

    device: str
    threads: int  # of a training on the CPU

    def __post_init__(self) -> None:
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("--measure: must be a device of this machine, got 'cuda'")

    def prices(
        self, chosen: Iterable[tuple[Case, Case]], dataset: str, *, seconds: float, say: Callable[[str], None]
    ) -> tuple[str, Mapping[str, Price]]:
        """The kind of device, and the price of each configuration there.

        Every configuration is timed for about so many seconds, round after round: what passes over the machine meets
        all arms alike, and the quicker timing counts.
        """
        torch.set_num_threads(self.threads)
        known = environment()
        different = dict[str, Case]()
        for case in chain.from_iterable(chosen):
            different.setdefault(case.sha256, case)
        rounds = list(chain.from_iterable(repeat(list(different.items()), _ROUNDS)))
        configs, prices = (case.config for _, case in rounds), dict[str, Price]()
        timed = paces(configs, load(dataset).sealed(), device=self.device, seconds=seconds)
        for (sha256, case), pace in zip(rounds, timed, strict=True):
            prices[sha256] = _quicker(prices.get(sha256), _measured(case, pace, known))
            say(f"{case.arm}, {case.name}: {pace.epoch:.3g} s an epoch ({pace.batches} batches timed)")
        return kind(known, self.device, self.threads), prices


def _measured(case: Case, pace: Pace, known: Mapping[str, str]) -> Price:
    return Price(
        arm=case.arm,
        case=case.name,
        seconds=pace.epoch,
        batches=pace.batches,
        torch=known.get("torch", ""),
        commit=known.get("git commit", ""),
    )


def _quicker(before: Price | None, now: Price) -> Price:
    """The quicker of two timings, with the batches of both."""
    if before is None:
        return now
    return replace(now, seconds=min(before.seconds, now.seconds), batches=before.batches + now.batches)


def hours(config: StudyConfig, space: Space, case: Case, prices: Mapping[str, Price]) -> ArmHours:
    """What an arm takes at most when each of its epochs has one price."""
    price, epochs, limit = prices.get(case.sha256), most_epochs(space.card()), amount(config.budget, config.budget_unit)
    if price is None:
        return ArmHours(arm=case.arm, seconds=None, search=None, replicates=None)
    searched = {
        "trials": limit * epochs * price.seconds,
        "epochs": limit * price.seconds,
        "device_seconds": limit,
    }[config.budget_unit]
    again = config.replicates * most_repeated(epochs, config.budget, config.budget_unit) * price.seconds
    return ArmHours(arm=case.arm, seconds=price.seconds, search=searched / 3600, replicates=again / 3600)


def total(arms: Sequence[ArmHours]) -> ArmHours:
    """The sum of those arms that have a price."""
    search, replicates = (sum(getattr(each, name) or 0 for each in arms) for name in ("search", "replicates"))
    return ArmHours(arm="all arms", seconds=None, search=search, replicates=replicates)


def read_prices(path: Path) -> Prices:
    """The prices of a file; UserError where it is none."""
    content = _read_json(path)
    try:
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r}")
        return {
            device: {sha256: _price(each) for sha256, each in known.items()}
            for device, known in content["devices"].items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        came = f"no {error}" if isinstance(error, KeyError) else first_line(error)
        raise UserError(f"{path}: must be prices as `study plan --measure` writes them, got {came:.80}") from None


def write_prices(path: Path, prices: Prices) -> None:
    """Write the file, whole."""
    content = {"format": _FORMAT, "devices": {name: _plain(known) for name, known in sorted(prices.items())}}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, f"{json.dumps(content, indent=1)}\n".encode())


def merged(old: Prices, device: str, new: Mapping[str, Price]) -> Prices:
    """Old prices with new ones of a kind of device in their place."""
    return {**old, device: {**old.get(device, {}), **new}}


def kind(known: Mapping[str, str], device: str, threads: int) -> str:
    """What has prices of its own: "NVIDIA H100 80GB HBM3", "AMD EPYC 9R14, 1 thread"."""
    if device == "cuda":
        return known["gpu"].split(", ")[0]
    return f"{known['cpu']}, {threads} thread{'s' if threads > 1 else ''}"


def _training(space: Space, params: Params) -> TrainingConfig:
    """The training of some params as it is timed: where its tables start from takes no time worth a price."""
    config = parse_config(space.config(params, seed=0))
    return replace(config, pretrain=PretrainConfig())


def _extreme(space: Space, weigh: Callable[[Params], float]) -> Params:
    """Of each dimension the end that weighs most: the upper one, or the middle of choices, where all weigh the same."""
    params = dict(middle(space))
    for each in space.tuned:
        if each.path.startswith(_SIZED):
            mapped = [{**params, each.path: end} for end in _ends(each)]
            params = max([params, *mapped] if each.choices else mapped, key=weigh)
    return params


def _ends(dimension: Dimension) -> tuple[Value, ...]:
    """The highest and the lowest value, or all choices."""
    return dimension.choices or (quantile(dimension, math.nextafter(1.0, 0.0)), quantile(dimension, 0.0))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: must be a file of prices (study plan --measure writes one), there is none") from None
    except IsADirectoryError:
        raise UserError(f"{path}: must be a file of prices, got a folder") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: must be JSON, got {error.msg} in column {error.colno}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: must be JSON, got a file that is not UTF-8 text") from None


def _price(record: Mapping[str, Any]) -> Price:
    price = Price(**record)
    if not (price.seconds > 0 and math.isfinite(price.seconds)):
        raise ValueError(f"seconds: {price.seconds}")
    return price


def _plain(known: Mapping[str, Price]) -> Mapping[str, Mapping[str, Any]]:
    return {sha256: asdict(price) for sha256, price in known.items()}
