"""Small graphs, configurations and models whose scores are known, for the tests of the core."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from kge.config import TrainingConfig
from kge.data import Dataset, from_names
from kge.documents import parse_config, set_path
from kge.models import MODELS
from kge.models.base import AbstractModel, ModelSpec

Ids = tuple[int, int, int]


def named(triples: Sequence[Ids]) -> list[tuple[str, str, str]]:
    """Names whose sorted order is that of the ids."""
    return [(f"e{h:03}", f"r{r}", f"e{t:03}") for h, r, t in triples]


def dataset(*, train: Sequence[Ids], valid: Sequence[Ids], test: Sequence[Ids] = ()) -> Dataset:
    """A graph from ids; every id below the largest must occur somewhere, so that ids stay what they were."""
    return from_names("toy", {"train": named(train), "valid": named(valid), "test": named(test)})


def ring(size: int = 12) -> Dataset:
    """`next` around a ring, `previous` against it, `opposite` across: facts that follow from one another."""
    after = [(i, 0, (i + 1) % size) for i in range(size)]
    before = [(t, 1, h) for h, _, t in after]
    across = [(i, 2, (i + size // 2) % size) for i in range(size)]
    held_out = [before[3], across[1], before[7]]
    train = [fact for fact in (*after, *before, *across) if fact not in held_out]
    return dataset(train=train, valid=held_out[:2], test=held_out[2:])


def random_graph(*, entities: int = 10, relations: int = 3, sizes: tuple[int, int, int] = (60, 25, 25)) -> Dataset:
    """Random triples; the last entity is only in valid, and repeated queries with several answers are common."""
    generator = torch.Generator().manual_seed(5)

    def draw(count: int, top: int) -> list[Ids]:
        heads, tails = (torch.randint(top, (count,), generator=generator).tolist() for _ in range(2))
        return list(zip(heads, torch.randint(relations, (count,), generator=generator).tolist(), tails, strict=True))

    known = entities - 1
    train = [*draw(sizes[0], known), *((i, i % relations, i) for i in range(known))]
    valid = [*draw(sizes[1], known), (known, 0, 1), (2, 1, known)]
    return dataset(train=train, valid=valid, test=draw(sizes[2], known))


def config(
    paths: Mapping[str, object] | None = None, /, *, model: str = "complex", loss: str = "sce", name: str = "toy"
) -> TrainingConfig:
    """A small configuration, with values set by dotted path."""
    mapping = {
        "dataset": name,
        "model": {"name": model, "dim": 8, "init": {"name": "normal", "std": 0.3}},
        "loss": {"name": loss},
        "training": {"batch_size": 16, "max_epochs": 3},
        "negatives": {"tail": 4},
        "validation": {"every": 1},
    }
    for path, value in (paths or {}).items():
        set_path(mapping, path, value)
    return parse_config(mapping)


def build(
    name: str, *, entities: int, relations: int, dim: int, reciprocal: bool = False, seed: int = 0, **options: object
) -> AbstractModel:
    """A model on its own, with tables of N(0, 1/4)."""
    parts = config({"model.init.std": 0.5}).model
    spec = ModelSpec(
        num_entities=entities,
        num_relations=relations,
        dim=dim,
        reciprocal=reciprocal or MODELS[name].reciprocal_only,
        init=parts.init,
        generator=torch.Generator().manual_seed(seed),
    )
    return MODELS[name](spec, **options)


def free_scores(scores: Tensor) -> AbstractModel:
    """A model whose score of (h, r, t) is scores[r, h, t], exactly.

    RESCAL with unit vectors as entities. With 2 R matrices the model is reciprocal: the score of h as a head
    of (?, r, t) is scores[r + R, t, h].
    """
    rows, size, _ = scores.shape
    reciprocal = rows > 1 and rows % 2 == 0
    model = build("rescal", entities=size, relations=rows // 2 if reciprocal else rows, dim=size, reciprocal=reciprocal)
    with torch.no_grad():
        model.entities.copy_(torch.eye(size))
        model.relations.copy_(scores.reshape(rows, size * size))
    return model


def write_folder(folder: Path, graph: Mapping[str, Sequence[tuple[str, str, str]]], *, suffix: str = ".tsv") -> Path:
    """Write a folder of triples, one file a split."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, triples in graph.items():
        (folder / f"{split}{suffix}").write_text("".join("\t".join(triple) + "\n" for triple in triples))
    return folder
