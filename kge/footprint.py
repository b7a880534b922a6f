"""What a training will hold in memory, said before it starts; and fewer rows at a time where that is too much.

    peak    = tables + data + kept + max(step, validation)            in bytes, beside what the process holds anyway
    tables  = 4 P (2 + o)                  parameters, gradients, o states of the optimizer: Adam 2, Adagrad 1, SGD 0
    data    = 140 N + 110 V                triples, their counts, known answers; 200 N where training needs these
    kept    = (b + b') E s                 softmax kernel: its block of scores, s bytes each, and that of the last batch
    step    = max(rows + scores + 4 R W + d 4 E D, terms)     d = 2 with dropout of entities, 4 beside negatives;
                                                              matrices used where they lie: 8 min(R, B) W if made for
                                                              the batch, nothing if parameters

    rows    = 1.5 x what a query keeps for its gradient x Q, and 32 D Q for itself
    scores  = 4 E D or packed copies       softmax kernel; 8 E D with sub-batches
              c 4 b E + 12 E D             any other loss of all entities: c blocks are alive where its gradient begins
              72 B (K + 1)                 negatives, where a compiled loop reads the table
              + v 4 b (K + 1) D            where a vector is copied for each pair: v of them
    terms   = 20 (E D + R W) of whole tables, 16 B (2 D + W) of rows, for DURA what a step has of matrices instead of
              the W; relation prediction 16 B W + 12 R (W + B)

    validation = 3 x 4 x q E               a block of q queries, the one before it, what is counted in it

B triples or queries of a batch, Q its queries, b rows of them scored at a time, K negatives, D = `dim`, W numbers per
relation, E entities, R relations, N training and V validation triples, P parameters.

Constants were fitted to measured peaks, and a test holds the sum against some: within 30 % where the training is
large beside 50 MB. A checkpoint adds nothing, because it is written from the tensors themselves; that one is read
again, once, does: the parameters. Where a formula is for CUDA, it has been measured on the CPU without compiled loops.
"""

import json
import os
import resource
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from kge.batches import has_kernel
from kge.building import build_model, training_type
from kge.config import OptimizerConfig, TrainingConfig, restore
from kge.data import Dataset, Side
from kge.evaluation import SCORED
from kge.kernels import FEWEST, PART
from kge.losses import LOSSES
from kge.memory import halved
from kge.models.base import AbstractBilinear, AbstractModel
from kge.models.distances import DIFFERENCES
from kge.models.matrices import AbstractMatrixModel
from kge.models.rotate import RotatE
from kge.native import can_run
from kge.precision import in_bfloat16

_Bytes = int | float

_FLOAT = 4
_BLOCKS = {"ns": 7.25, "sans": 9.25}  # c of inner products; every other loss has 3, and a distance one more
_DIFFERENCES = {"moduli": 7, "l1": 2}  # blocks of them by which a gradient adds to the peak, without compiled loops
_PACKED = 3  # copies that oneDNN makes of the scores of a part
_CUDA = 0.9  # share of a device's memory that tensors may fill: the rest is the driver's, and lost between them
_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a footprint depends on of a data set, which need not be here."""

    entities: int
    relations: int
    train: int
    valid: int

    @classmethod
    def of(cls, dataset: Dataset) -> "Sizes":
        """Those of a data set that is here."""
        splits = {"train": len(dataset.train), "valid": len(dataset.valid)}
        return cls(entities=dataset.num_entities, relations=dataset.num_relations, **splits)


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes of a training by what they are for."""

    tables: int
    data: int
    kept: int
    step: int
    validation: int

    @property
    def peak(self) -> int:
        """The most that is held at once."""
        return self.tables + self.data + self.kept + max(self.step, self.validation)


def predicted(config: TrainingConfig, sizes: Sizes, *, device: str = "cpu") -> Footprint:
    """The footprint of a training on "cpu" or "cuda", whether such a device is here or not."""
    case = _Case(config, _small(json.dumps(asdict(config.model))), sizes, torch.device(device).type)
    return Footprint(
        tables=case.parameters() * (2 + _states(config.optimizer)),
        data=case.data(),
        kept=round(case.kept()),
        step=round(max(case.rows() + case.scores() + case.gradients(), case.terms())),
        validation=round(case.validation()),
    )


def num_parameters(config: TrainingConfig, *, entities: int, relations: int) -> int:
    """Numbers that a training learns on a graph of this size, which need not be here."""
    model = _small(json.dumps(asdict(config.model)))
    sizes = Sizes(entities=entities, relations=relations, train=1, valid=1)
    return _Case(config, model, sizes, "cpu").parameters() // _FLOAT


def fitted(config: TrainingConfig, sizes: Sizes, *, limit: int | float, device: str = "cpu") -> TrainingConfig:
    """The same training with as few rows at a time as its peak needs to stay below `limit` bytes.

    As it was given where that helps nothing: the tables alone are larger, and what happens then is no prediction's
    to decide.
    """
    smaller: TrainingConfig | None = config
    while smaller is not None:
        if predicted(smaller, sizes, device=device).peak <= limit:
            return smaller
        smaller = halved(smaller)
    return config


def room(device: str = "cpu", *, share: float = 1.0, whole: float | None = None) -> float:
    """Bytes that a training may add to this process.

    It has a share of the GPU, or a share of the machine with what the process holds already; `whole` bytes of it
    where that is not all.
    """
    if torch.device(device).type == "cuda":
        whole = whole or _CUDA * torch.cuda.get_device_properties(device).total_memory
        return share * whole
    return share * (whole or _machine()) - resident()


def resident() -> int:
    """Bytes that this process holds; where the system does not say it, the most that it has held."""
    now = Path("/proc/self/statm")
    if now.is_file():
        return int(now.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _machine() -> int:
    """Bytes of this machine, or of the part of it that a container may use."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    said = (file.read_text().strip() for file in _CGROUPS if file.is_file())
    return min([*limits, *(int(each) for each in said if each.isdigit())])


class _Case:
    """One training on one kind of device: the terms of the formula, by a model that differs in its numbers of rows."""

    def __init__(self, config: TrainingConfig, model: AbstractModel, sizes: Sizes, device: str) -> None:
        self._config = config
        self._model = model
        self._train, self._valid = sizes.train, sizes.valid
        self._device = device
        self._compiled = device == "cpu" and can_run()
        self._type = training_type(config)
        self._batch = min(config.training.batch_size, self._train)
        self._dim = model.entities.shape[1]
        self._entities, self._relations = sizes.entities, sizes.relations * (2 if model.reciprocal else 1)
        self._table = _FLOAT * self._entities * self._dim
        self._relation_table = _FLOAT * self._relations * model.relations.shape[1]
        self._fused = self._type != "negative_sampling" and has_kernel(type(model), LOSSES[config.loss.name])
        self._width = _relation_width(model)

    def parameters(self) -> int:
        """All of them, once."""
        tables = (self._model.entities, self._model.relations)
        others = sum(each.numel() for each in self._model.parameters()) - sum(each.numel() for each in tables)
        return self._table + self._relation_table + _FLOAT * others

    def data(self) -> int:
        """Triples, their counts and filters; k_vs_all and filtered negatives know the answers of all queries."""
        is_indexed = self._type == "k_vs_all" or self._config.negatives.filtered
        return (200 if is_indexed else 140) * self._train + 110 * self._valid

    def kept(self) -> _Bytes:
        """Blocks of the softmax kernel: those of the two largest sizes are kept."""
        if not self._fused:
            return 0
        sizes = {rows for batch in (self._batch, self._train % self._batch) for rows in self._parts(batch)}
        return sum(sorted(sizes)[-2:]) * self._entities * self._bytes

    def rows(self) -> _Bytes:
        """Queries, and what their gradients need."""
        is_dropped = self._model.relation_dropout.is_active
        if self._in_place:  # nothing but the mask is kept
            saved: _Bytes = self._width * is_dropped
        elif isinstance(self._model, AbstractMatrixModel):
            saved = 1.5 * _FLOAT * self._width * (1 + is_dropped)
        else:
            saved = 1.5 * _saved(self._model)
        return self._queries(self._batch) * (32 * self._dim + saved)

    def scores(self) -> _Bytes:
        """What comes between queries and gradients."""
        if self._type == "negative_sampling":
            return self._pairs()
        entities, rows = self._entities, max(self._parts(self._batch))
        if self._fused:
            tables = self._table * (1 if rows == self._queries(self._batch) else 2)
            return max(tables, _PACKED * _FLOAT * self._packed(rows))
        blocks = _BLOCKS.get(self._config.loss.name, 3) + (not isinstance(self._model, AbstractBilinear))
        copies = 0 if self._compiled else _DIFFERENCES.get(self._model.comparison or "", 0)
        return _FLOAT * ((blocks + (copies > 0)) * rows * entities + copies * DIFFERENCES) + 3 * self._table

    def terms(self) -> _Bytes:
        """Penalty and second task, which come when the loss has given its memory back."""
        penalty = self._config.regularizer
        rows, total = _FLOAT * self._batch, 0.0
        if penalty.name == "lp" and not penalty.weighted:
            entities = self._table if penalty.entity_weight else 0
            total = 5 * (entities + (self._relation_table if penalty.relation_weight else 0))
        elif penalty.name == "dura" and self._in_place:
            total = 16 * rows * self._dim + self._of_matrices()
        elif penalty.name != "none":
            width = self._model.relations.shape[1] if penalty.name == "lp" else self._width
            total = 4 * rows * (2 * self._dim + width)
        if self._config.auxiliary.relation_weight:
            total += 4 * rows * self._width + 3 * _FLOAT * self._relations * (self._width + self._batch)
        return total

    def gradients(self) -> _Bytes:
        """Those of relations as they come from a lookup, and what dropout of entities adds."""
        relations = self._of_matrices() if self._in_place else self._relation_table
        return relations + 2 * self._table * self._model.entity_dropout.is_active * (
            2 if self._type == "negative_sampling" else 1
        )

    def validation(self) -> _Bytes:
        """Blocks of a validation."""
        scored = max(1, SCORED[self._device] // self._entities)
        queries = min(self._config.validation.block_size, scored, self._valid)
        differences = DIFFERENCES if isinstance(self._model, RotatE) and not self._compiled else 0
        return 3 * _FLOAT * (queries * self._entities + differences)

    def _pairs(self) -> _Bytes:
        config = self._config
        pairs = self._batch * (1 + max(config.negatives.per_side))
        part = pairs / self._batch * min(self._batch, config.training.sub_batch_size or self._batch)
        if self._compiled and self._model.comparison is not None:
            return 72 * pairs
        vectors = 2 if isinstance(self._model, AbstractBilinear) else 5 if isinstance(self._model, RotatE) else 4
        return 72 * pairs + vectors * _FLOAT * part * self._dim

    def _packed(self, rows: int) -> int:
        """Scores that oneDNN makes at a time."""
        if not self._compiled or self._bytes != _FLOAT:
            return 0
        return min(rows, max(PART // self._entities, FEWEST)) * self._entities

    @property
    def _in_place(self) -> bool:
        """Whether queries are made from the matrices of their relations where they lie."""
        return self._compiled and isinstance(self._model, AbstractMatrixModel)

    def _of_matrices(self) -> int:
        """Matrices that are made for the relations that a batch may have, and their gradients; none for parameters."""
        assert isinstance(self._model, AbstractMatrixModel)
        return 0 if self._model.are_parameters else 2 * _FLOAT * min(self._batch, self._relations) * self._width

    @property
    def _bytes(self) -> int:
        return 2 if in_bfloat16(self._config.training.precision, self._device) else _FLOAT

    def _queries(self, batch: int) -> int:
        return batch if self._type == "k_vs_all" else 2 * batch

    def _parts(self, batch: int) -> Iterator[int]:
        """Rows that are scored at a time."""
        queries = self._queries(batch)
        size = min(queries, self._config.training.sub_batch_size or queries)
        if size:
            yield size
            if queries % size:
                yield queries % size


class _Undrawn(TorchFunctionMode):
    """Leaves what a table starts from to chance."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in {torch.Tensor.normal_, torch.Tensor.uniform_} else func(*args, **(kwargs or {}))


@lru_cache(maxsize=64)
def _small(model: str) -> AbstractModel:
    """A model in training, of two entities and one relation.

    No tensor is on the device "meta", which would need no memory at all: there torch imports its compiler for any
    product, for a second.
    """
    config = restore({"dataset": "", "model": json.loads(model), "loss": {"name": ""}})
    with _Undrawn():
        return build_model(config, num_entities=2, num_relations=1).train()


def _states(optimizer: OptimizerConfig) -> int:
    """Numbers that it keeps for each parameter."""
    return {"adagrad": 1, "adam": 2, "adamw": 2, "sgd": int(optimizer.momentum > 0)}[optimizer.name]


@lru_cache(maxsize=64)
def _saved(model: AbstractModel) -> float:
    """Bytes that the gradient of a query needs, read off two batches."""
    return (_saved_of(model, 4) - _saved_of(model, 2)) / 2


def _saved_of(model: AbstractModel, rows: int) -> int:
    sizes: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    ids = torch.zeros(rows, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        kept = model.queries(Side.TAIL, ids, ids)
    del kept
    return sum(sizes.values())


@lru_cache(maxsize=64)
def _relation_width(model: AbstractModel) -> int:
    if isinstance(model, AbstractMatrixModel):
        return model.entities.shape[1] ** 2
    return model.embed_relation(torch.zeros(1, dtype=torch.int64)).shape[1]
