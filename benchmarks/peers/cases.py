"""What is measured, and what is not the same in the libraries.

Every training is of ComplEx-like size: `dim` real numbers an entity, Adagrad, no penalty, no dropout. Batches and
negatives are counted alike: a batch has as many triples (k_vs_all: queries) in every library, and a triple as many
negatives.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

NOTES = {
    ("one_vs_all", "PyKEEN"): "SymmetricLCWATrainingLoop: the same rows and loss, in sub-batches of 64; float32",
    ("one_vs_all", "LibKGE"): "1vsAll, kl: the same rows and loss; float32",
    ("k_vs_all", "PyKEEN"): "LCWATrainingLoop, inverse triples: heads are tails of inverse relations; float32",
    ("k_vs_all", "LibKGE"): "KvsAll, kl: the same rows; float32",
    (
        "negative_sampling",
        "PyKEEN",
    ): "as many negatives a triple, all of one side, which changes; one positive, not two",
    ("negative_sampling", "LibKGE"): "the same rows; batch-wise scoring unless said",
    (
        "ranking",
        "PyKEEN",
    ): "some batches, scaled to the split; heads are tails of inverse relations; repeated queries again",
    ("ranking", "LibKGE"): "some batches, scaled to the split; raw ranks too; scores within 1e-5 + 1e-4 s tie",
}
MODEL_NOTES = {
    ("conve", "PyKEEN"): "both with batch normalisation, without dropout and padding",
    ("rotate", "PyKEEN"): "Euclidean norm over the whole vector in place of the sum of moduli",
    ("rotate", "LibKGE"): "triple-wise scoring",
    ("tucker", "LibKGE"): "relational_tucker3: the core is a linear map from relations to matrices",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One piece of work."""

    kind: str  # a training type, "ranking", "start" or "warm": from one training to the first batch of the next
    model: str
    loss: str = ""
    dim: int = 128
    batch_size: int = 512
    negatives: int = 0  # for each side of a triple
    bfloat16: bool = False  # whether ours is measured in it, too

    @property
    def name(self) -> str:
        """Model, loss, kind."""
        return " ".join(filter(None, (self.model, self.loss, self.kind)))

    @property
    def training(self) -> str:
        """The training type, of which a start has the first batch; or "ranking"."""
        return "k_vs_all" if self.kind in ("start", "warm") else self.kind

    def note(self, system: str) -> str:
        """What is otherwise there."""
        return "; ".join(filter(None, (NOTES.get((self.training, system)), MODEL_NOTES.get((self.model, system)))))


def cases() -> Iterator[Case]:
    """All of them."""
    sce = Case(kind="one_vs_all", model="complex", loss="sce", bfloat16=True)
    yield sce
    yield replace(sce, kind="k_vs_all")
    yield replace(sce, kind="k_vs_all", model="conve")
    for model in ("distmult", "rescal", "tucker"):
        yield replace(sce, model=model)
    yield replace(
        sce, model="transe", batch_size=64, bfloat16=False
    )  # PyKEEN holds 64 x E x dim numbers, several times
    sans = Case(kind="negative_sampling", model="complex", loss="sans", negatives=128)
    yield sans
    yield replace(sans, loss="ns")
    for model in ("transe", "rotate"):
        yield replace(sans, model=model)
    for model in ("complex", "transe", "rotate", "rescal"):
        yield Case(kind="ranking", model=model, batch_size=32 if model in ("transe", "rotate") else 256)
    for kind in ("start", "warm"):
        yield Case(kind=kind, model="complex", loss="sce")
