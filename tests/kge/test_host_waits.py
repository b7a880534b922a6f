"""No batch waits for the device: what needs a value on the host is asked of tensors that live there."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kge import kernels
from kge.batches import k_vs_all, negative_sampling, one_vs_all
from kge.losses import LOSSES
from kge.models.matrices import AbstractMatrixModel
from kge.training import Training
from tests.kge import graphs

GRAPH = graphs.random_graph()
WAITS = {"_local_scalar_dense", "_unique2", "bincount", "equal", "masked_select", "nonzero", "unique_consecutive"}
WAITS |= {"lift_fresh"}  # a list of the host among the operands
CASES = [(loss, type_) for loss, each in LOSSES.items() for type_ in each.training_types]
MODELS = ("complex", "transe", "rotate", "rescal", "tucker", "conve")
TERMS: dict[str, dict[str, object]] = {
    "lp": {"regularizer": {"name": "lp", "weighted": True, "entity_weight": 0.1, "relation_weight": 0.1}},
    "n3": {"regularizer": {"name": "n3", "weight": 0.1}},
    "dura": {"regularizer": {"name": "dura", "weight": 0.1}},
    "relation prediction": {"auxiliary.relation_weight": 0.5},
    "sub-batches": {"training.sub_batch_size": 3},
    "filtered": {"negatives.filtered": True},
    "subsampled": {"loss.subsampling": "freq"},
}


class Waits(TorchDispatchMode):
    """Collects operations whose result has a size or a value that the device must tell the host.

    Every tensor here is on the CPU, so those that stay on the host in any case are followed: `hosted` ones and what
    is made of nothing else, until `moved`.
    """

    def __init__(self, hosted: Sequence[Tensor]) -> None:
        super().__init__()
        self.found: list[str] = []
        self._hosted = {id(each): each for each in hosted}

    def moved(self, values: Tensor, device: torch.device) -> Tensor:
        copy = values.clone()
        del self._hosted[id(copy)]
        return copy

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        if all(id(each) in self._hosted for each in inputs) and (inputs or func._schema.name == "aten::arange"):
            self._hosted |= {id(each): each for each in tree_leaves(result) if isinstance(each, Tensor)}
        elif self._waits(func._schema.name.removeprefix("aten::"), args, kwargs or {}):
            self.found.append(func._schema.name)
        return result

    def _waits(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        if name in {"index", "index_put_", "index_put", "_index_put_impl_"}:
            return any(each is not None and each.dtype is torch.bool for each in args[1])
        return name in WAITS or (name == "repeat_interleave" and kwargs.get("output_size") is None)


def training(
    model: str, loss: str, type_: str, device: str = "cpu", *, more: Mapping[str, object] | None = None
) -> Training:
    options = {"training.type": type_, "model.dropout.entity": 0.1, "optimizer.max_norm": 1.0, **(more or TERMS["lp"])}
    if model == "conve":
        options |= {"model.reciprocal": True, "model.dim": 20}
    return Training(graphs.config(options, model=model, loss=loss), GRAPH, device=device)


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


def asked(begun: Training, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a step asks of the device."""
    # What the CPU alone does.
    monkeypatch.delattr(AbstractMatrixModel, "relate")
    monkeypatch.setattr(kernels, "may_hold", lambda _: True)
    rows = torch.arange(16)
    begun._step(rows)  # optimizers make their state at the first one
    on_host = [each for name, each in vars(begun._type).items() if name in {"_length", "_count", "_first"}]
    with Waits([rows, *on_host]) as waits:
        for module in (k_vs_all, negative_sampling, one_vs_all):
            monkeypatch.setattr(module, "moved", waits.moved)
        begun._step(rows)
    return waits.found


@pytest.mark.parametrize("model", MODELS)
def test_a_step_asks_the_device_for_nothing(model: str, case: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(training(model, *case), monkeypatch) == []


def _with(name: str) -> Iterator[tuple[str, str]]:
    """The training types, of a loss that takes what has this name."""
    if name not in ("filtered", "subsampled"):
        yield from (("sce", "one_vs_all"), ("sce", "k_vs_all"), ("bce", "k_vs_all"))
    yield "ns", "negative_sampling"


@pytest.mark.parametrize(("name", "loss", "type_"), [(name, *each) for name in TERMS for each in _with(name)])
def test_what_comes_with_a_step_asks_for_nothing_either(
    name: str, loss: str, type_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked(training("complex", loss, type_, more=TERMS[name]), monkeypatch) == []


def test_a_wait_would_be_found() -> None:
    scores, rows = torch.rand(4), torch.arange(4)
    with Waits([rows]) as waits:
        rows[rows < 2].tolist()
        scores[scores > 0.5].tolist()
        torch.unique(scores)
        scores.sum().item()
        scores[[0, 2]].sum()
    assert waits.found == ["aten::index", "aten::_unique2", "aten::_local_scalar_dense", "aten::lift_fresh"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("model", MODELS)
def test_no_step_synchronises(model: str, case: tuple[str, str]) -> None:
    begun = training(model, *case, device="cuda")
    rows = torch.arange(16)
    begun._step(rows)
    torch.cuda.set_sync_debug_mode("error")
    try:
        begun._step(rows)
    finally:
        torch.cuda.set_sync_debug_mode("default")
