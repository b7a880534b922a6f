"""ConvE: normalisation over the batch, dropouts of its own, images, and the side that it cannot ask."""

import math

import pytest
import torch
from torch import Tensor

from kge.config import ModelConfig
from kge.data import Side
from kge.documents import parse_config
from kge.errors import ConfigError
from kge.models.base import AbstractModel
from kge.models.conve import ConvE
from kge.training import Training
from tests.kge import graphs

E, R = 9, 2
QUIET = {"feature_dropout": 0.0, "hidden_dropout": 0.0}
IDS = (torch.tensor([0, 3, 5, 8, 3]), torch.tensor([0, 1, 1, 0, 2]))


def _build(dim: int = 6, **options: object) -> ConvE:
    model = graphs.build("conve", entities=E, relations=R, dim=dim, **options)
    assert isinstance(model, ConvE)
    return model


def _normalised(values: Tensor, over: tuple[int, ...]) -> Tensor:
    mean, variance = values.mean(dim=over, keepdim=True), values.var(dim=over, unbiased=False, keepdim=True)
    return (values - mean) / torch.sqrt(variance + 1e-5)


@pytest.mark.usefixtures("float64")
def test_a_batch_is_normalised_before_and_after_the_convolution_and_after_the_last_layer() -> None:
    model = _build(**QUIET, filters=4).train()
    query = model.queries(Side.TAIL, *IDS)

    head, relation = model.entities[IDS[0]].clone(), model.relations[IDS[1]]
    head[:, -1] = 0
    image = _normalised(torch.cat([head, relation], dim=1).view(-1, 1, 4, 3), (0, 1, 2, 3))
    maps = torch.nn.functional.conv2d(image, model.filters, padding=1)
    hidden = _normalised(maps, (0, 2, 3)).relu().flatten(1) @ model.weight.T
    expected = torch.cat([_normalised(hidden, (0,)).relu(), torch.ones(5, 1)], dim=1)
    torch.testing.assert_close(query, expected)


def test_ranking_uses_running_statistics_and_moves_nothing() -> None:
    model = _build(**QUIET).train()
    for _ in range(300):
        trained = model.queries(Side.TAIL, *IDS)
    model.eval()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    ranked = model.queries(Side.TAIL, *IDS)
    # The running variance is the unbiased one, as everywhere in torch: of five hidden numbers it is 5/4.
    torch.testing.assert_close(ranked, trained, rtol=0.3, atol=0.2)
    torch.testing.assert_close(model.queries(Side.TAIL, IDS[0][:1], IDS[1][:1]), ranked[:1])
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())


def test_a_single_row_is_normalised_as_in_ranking() -> None:
    model = _build(**QUIET)
    model.train().queries(Side.TAIL, *IDS)
    one = IDS[0][:1], IDS[1][:1]
    before = {name: each.clone() for name, each in model.state_dict().items()}
    torch.testing.assert_close(model.train().queries(Side.TAIL, *one), model.eval().queries(Side.TAIL, *one))
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())


def test_the_last_number_of_an_entity_is_its_bias() -> None:
    model = _build(**QUIET).eval()
    before = model.score_tails(*IDS)
    with torch.no_grad():
        model.entities[:, -1] += torch.arange(E)
    torch.testing.assert_close(model.score_tails(*IDS), before + torch.arange(E), rtol=1e-4, atol=1e-4)


def test_dropouts_zero_whole_maps_and_single_hidden_numbers() -> None:
    def zeros(**options: object) -> Tensor:
        model = _build(dim=24, batch_norm=False, **QUIET | options).train()
        with torch.no_grad():  # positive all through: only dropout makes a zero
            for parameter in model.parameters():
                parameter.abs_()
        model.use_generator(torch.Generator().manual_seed(0))
        return (model.queries(Side.TAIL, *IDS)[:, :-1] == 0).float().mean()

    assert zeros() == 0
    assert zeros(hidden_dropout=0.5) == pytest.approx(0.5, abs=0.2)
    assert zeros(feature_dropout=0.999, filters=2) > 0.9  # no map is left in most rows


def test_dropout_leaves_the_bias_alone() -> None:
    model = _build(hidden_dropout=0.9, feature_dropout=0.9).train()
    model.query_dropout.rate = 0.9
    model.use_generator(torch.Generator().manual_seed(0))
    assert (model.queries(Side.TAIL, *IDS)[:, -1] == 1).all()


@pytest.mark.parametrize(("dim", "image"), [(200, (20, 20)), (128, (16, 16)), (7, (2, 7)), (2, (2, 2))])
def test_an_image_is_as_square_as_dim_allows(dim: int, image: tuple[int, int]) -> None:
    assert _build(dim=dim).image == image
    assert _build(dim=dim, height=1).image == (2, dim)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"height": 4}, r"^model\.height: must be a divisor of model\.dim \(6\), got 4$"),
        ({"height": 0}, r"^model\.height: must be a divisor of model\.dim \(6\), got 0$"),
        ({"filters": 0}, r"^model\.filters: must be >= 1, got 0$"),
        ({"kernel": 4, "padding": 0}, r"^model\.kernel: must be in 1\.\.3 \(the padded image is 4 x 3\), got 4$"),
        ({"kernel": 0}, r"^model\.kernel: must be in 1\.\.5 \(the padded image is 6 x 5\), got 0$"),
        ({"padding": -1}, r"^model\.padding: must be in 0\.\.4 \(a side of the image\), got -1$"),
        ({"feature_dropout": 1.0}, r"^model\.feature_dropout: must be in \[0, 1\), got 1\.0$"),
        ({"hidden_dropout": -0.1}, r"^model\.hidden_dropout: must be in \[0, 1\), got -0\.1$"),
    ],
)
def test_what_makes_no_image_is_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        _build(**options)


def test_it_is_reciprocal_unless_told_otherwise_and_then_refused() -> None:
    mapping = {"dataset": "toy", "model": {"name": "conve"}, "loss": {"name": "sce"}}
    assert parse_config(mapping).model.reciprocal
    with pytest.raises(ConfigError, match=r"^model\.reciprocal: must be true: .*, got false$"):
        parse_config({**mapping, "model": {"name": "conve", "reciprocal": False}})
    assert not ModelConfig(name="conve").reciprocal


def test_weights_follow_the_seed_and_not_the_global_random_state() -> None:
    torch.manual_seed(1)
    one: AbstractModel = _build()
    torch.manual_seed(2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), _build().parameters(), strict=True))


@pytest.mark.parametrize("batch_size", [1, 7, 33])  # 33 leaves one triple, a batch of a single row on each side
def test_it_trains_with_batches_of_any_size(batch_size: int) -> None:
    graph = graphs.ring()
    assert len(graph.train) % 33 == 0 or len(graph.train) > 33
    config = graphs.config({"training.batch_size": batch_size, "training.max_epochs": 2}, model="conve")
    losses = [report.loss for report in Training(config, graph).epochs()]
    assert losses[1] < losses[0] < 4 * math.log(graph.num_entities)
