"""TF32: in the products of a training that asks for it, in no ranking, and never left behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kge import checkpoint
from kge.data import Side
from kge.errors import CheckpointError
from kge.evaluation import rank
from kge.filters import filter_from
from kge.fitting import LAST, fit
from kge.losses import LOSSES
from kge.models import MODELS
from kge.precision import has_bfloat16, products
from kge.predict import predict
from kge.training import Training
from tests.kge import graphs

GRAPH = graphs.ring()
MATMUL, CONV = torch.backends.cuda.matmul, torch.backends.cudnn.conv
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def settings() -> tuple[str, str]:
    return MATMUL.fp32_precision, CONV.fp32_precision


@pytest.fixture(params=["ieee", "tf32"])
def before(request: pytest.FixtureRequest) -> Iterator[str]:
    """What the program around had set."""
    was = settings()
    MATMUL.fp32_precision = CONV.fp32_precision = request.param
    yield request.param
    MATMUL.fp32_precision, CONV.fp32_precision = was


def during(training: Training, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The settings while a batch's gradients are made, and while ranks and a prediction are made after it."""
    seen: list[tuple[str, str]] = []
    backward, compare = training._type.backward, training.model.compare

    def spied(*args: object) -> Tensor:
        seen.append(settings())
        return backward(*args)  # type: ignore[arg-type]

    def watched(*args: object) -> Tensor:
        seen.append(settings())
        return compare(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(training._type, "backward", spied)
    next(training.steps())
    monkeypatch.setattr(training.model, "compare", watched)
    rank(training.model, GRAPH.valid, filter_from(GRAPH, ("train",)), block_size=100)
    predict(training.model, GRAPH, side=Side.TAIL, anchor="e000", relation="r0", top=1)
    return seen


@pytest.mark.parametrize(("precision", "said"), [("float32", "ieee"), ("tf32", "tf32"), ("bfloat16", "ieee")])
def test_a_step_says_its_precision_and_a_ranking_says_float32(
    precision: str, said: str, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = during(Training(graphs.config({"training.precision": precision}), GRAPH), monkeypatch)
    assert seen == [(said, said), *[("ieee", "ieee")] * 3]  # a step; heads, tails, a prediction
    assert settings() == (before, before)


def test_who_looks_at_a_batch_in_between_has_what_was_set_before(before: str) -> None:
    training = Training(graphs.config({"training.precision": "tf32"}), GRAPH)
    for _ in training.steps():
        assert settings() == (before, before)


def test_a_failure_gives_it_back_too(before: str) -> None:
    with pytest.raises(ZeroDivisionError), products(tf32=before == "ieee"):
        raise ZeroDivisionError
    assert settings() == (before, before)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("loss", LOSSES)
def test_where_there_is_none_every_training_is_that_of_float32(model: str, loss: str) -> None:
    paths = {"training.max_epochs": 1} | ({"model.reciprocal": True, "model.dim": 20} if model == "conve" else {})
    one, other = (
        Training(graphs.config(paths | {"training.precision": each}, model=model, loss=loss), GRAPH)
        for each in ("float32", "tf32")
    )
    assert [each.loss for each in one.epochs()] == [each.loss for each in other.epochs()]
    assert torch.equal(one.model.entities, other.model.entities)


def test_it_is_another_training(tmp_path: Path) -> None:
    list(fit(graphs.config(), GRAPH, directory=tmp_path))
    with pytest.raises(CheckpointError, match=r"training\.precision is 'float32' there and 'tf32' here"):
        checkpoint.load(tmp_path / LAST, config=graphs.config({"training.precision": "tf32"}))


@needs_gpu
def test_products_are_rounded_on_a_gpu_that_has_it() -> None:
    left, right = torch.rand(2, 256, 256, dtype=torch.float64, device="cuda").unbind()
    exact = left @ right

    def error(*, tf32: bool) -> float:
        with products(tf32=tf32):
            return float((left.float() @ right.float() - exact).abs().max())

    assert error(tf32=False) < 1e-3
    if torch.cuda.get_device_capability() >= (8, 0):
        assert 1e-3 < error(tf32=True) < 1


@needs_gpu
@pytest.mark.parametrize("model", ["complex", "conve"])
def test_on_a_gpu_the_ranks_after_it_are_those_of_float32(model: str) -> None:
    undropped = {"model.reciprocal": True, "model.feature_dropout": 0.0, "model.hidden_dropout": 0.0}
    paths = {"training.precision": "tf32", "model.dim": 20} | (undropped if model == "conve" else {})
    training = Training(graphs.config(paths, model=model), GRAPH, device="cuda")
    losses = [each.loss for each in training.epochs()]
    on_cpu = Training(graphs.config(paths, model=model), GRAPH)
    assert losses == pytest.approx([each.loss for each in on_cpu.epochs()], rel=0.05)
    on_cpu.model.load_state_dict(training.model.state_dict())
    with products(tf32=True):
        mine = rank(training.model, GRAPH.valid.cuda(), filter_from(GRAPH, ("train",), "cuda"), block_size=100)
    theirs = rank(on_cpu.model, GRAPH.valid, filter_from(GRAPH, ("train",)), block_size=100)
    for one, other in zip(mine, theirs, strict=True):
        assert one.realistic.tolist() == other.realistic.tolist()


@pytest.mark.parametrize(
    ("processor", "has"),
    [
        ({"architecture": "x86_64", "avx2": True, "avx512_f": False, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"architecture": "x86_64", "avx512_f": True, "avx512_vnni": True, "avx512_bf16": False}, False),
        ({"architecture": "x86_64", "avx512_f": True, "avx512_bf16": True, "amx_bf16": False}, True),
        ({"architecture": "aarch64", "neon": True, "bf16": True}, True),
        ({"architecture": "aarch64", "neon": True, "bf16": False}, False),
    ],
)
def test_a_processor_has_bfloat16_if_it_multiplies_it(
    processor: dict[str, object], has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
    assert has_bfloat16.__wrapped__("cpu") is (has and torch.backends.mkldnn.is_available())
