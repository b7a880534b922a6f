"""What the tables of a checkpoint took, everything that they started from or are joined of included.

    spent = before + the costs of its own curve        before: of the checkpoint that it started from, or of its parts

So whoever starts a compared training from a checkpoint can be charged the whole of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kge import checkpoint
from kge.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Trainings, their epochs, and the seconds that these took on their device, validations included."""

    trainings: int = 0
    epochs: int = 0
    device_seconds: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            trainings=self.trainings + other.trainings,
            epochs=self.epochs + other.epochs,
            device_seconds=self.device_seconds + other.device_seconds,
        )

    @classmethod
    def read(cls, found: object) -> "Spent | None":
        """That of a file; None where none was written down."""
        if found is None:
            return None
        types = {"trainings": int, "epochs": int, "device_seconds": int | float}
        if not isinstance(found, Mapping) or found.keys() != types.keys():
            raise CheckpointError(f"what it took must be {', '.join(types)}, got {found!r:.80}")
        for key, type_ in types.items():
            if not isinstance(found[key], type_) or isinstance(found[key], bool) or not found[key] >= 0:
                raise CheckpointError(f"{key} of what it took must be a number >= 0, got {found[key]!r:.80}")
        return cls(**found)


def spent(content: Mapping[str, Any]) -> Spent | None:
    """Of what a checkpoint holds; None where an older version wrote it and did not write down what came before."""
    curve = content["curve"]
    before = Spent.read(content.get("before"))
    if before is None:
        is_whole = bool(curve) and curve[0]["epoch"] == curve[0]["epochs"]
        if not is_whole or checkpoint.config_of(content).pretrain.checkpoint is not None:
            return None
        before = Spent()
    return before + _of_curve(curve)


def record(before: Spent | None) -> dict[str, Any]:
    """The part of a checkpoint that says what came before its curve, which `spent` reads."""
    return {} if before is None else {"before": asdict(before)}


def total(parts: Iterable[Spent | None]) -> Spent | None:
    """The sum; None where one is not known."""
    known = list(parts)
    if None in known:
        return None
    return sum((each for each in known if each is not None), start=Spent())


def before_curve(whole: Spent | None, curve: Iterable[Mapping[str, Any]]) -> Spent | None:
    """What came before a curve, of which `whole` is known: an imported model keeps no more than one validation."""
    if whole is None:
        return None
    own = _of_curve(list(curve))
    return Spent(  # none below 0, whatever a description says
        trainings=max(0, whole.trainings - own.trainings),
        epochs=max(0, whole.epochs - own.epochs),
        device_seconds=max(0.0, whole.device_seconds - own.device_seconds),
    )


def _of_curve(curve: Iterable[Mapping[str, Any]]) -> Spent:
    each = [Spent(epochs=one["epochs"], device_seconds=one["device_seconds"]) for one in curve]
    return sum(each, start=Spent(trainings=1 if each else 0))
