"""Dropout: rates, means, generators."""

import pytest
import torch

from kge.models import masks
from kge.models.dropout import Dropout
from tests.kge.threads import threads

SHAPE = (401, 253)  # not a multiple of the four coordinates that one draw decides


def _mask(rate: float, seed: int = 0) -> torch.Tensor:
    dropout = Dropout(rate)
    dropout.generator = torch.Generator().manual_seed(seed)
    mask: torch.Tensor = dropout(torch.ones(SHAPE))
    return mask


def test_rate_zero_and_evaluation_pass_the_values_themselves() -> None:
    values = torch.randn(3, 4)
    assert Dropout(0.0)(values) is values
    assert Dropout(0.5).eval()(values) is values


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3592749, 0.5, 0.9])
def test_the_share_dropped_is_the_rate_and_the_mean_stays(rate: float) -> None:
    mask = _mask(rate)
    deviation = (rate * (1 - rate) / mask.numel()) ** 0.5
    assert (mask == 0).double().mean().item() == pytest.approx(rate, abs=4 * deviation + 2**-16)
    assert mask.double().mean().item() == pytest.approx(1, abs=4 * deviation / (1 - rate))
    assert mask.unique().tolist() == pytest.approx([0.0, 1 / (1 - rate)], rel=1e-3)


@pytest.mark.parametrize("lane", range(4))
def test_every_coordinate_of_a_draw_is_dropped_at_the_rate(lane: int) -> None:
    share = (_mask(0.25).flatten()[lane::4] == 0).double().mean().item()
    assert share == pytest.approx(0.25, abs=0.012)


def test_coordinates_are_dropped_independently() -> None:
    dropped = (_mask(0.5).flatten() == 0).double() - 0.5
    for shift in (1, 2, 3, 4, 8, SHAPE[1]):
        assert abs((dropped[shift:] * dropped[:-shift]).mean().item()) < 0.25 * 4 / dropped.numel() ** 0.5


@pytest.mark.parametrize("rate", [1e-7, 1 - 1e-7])
def test_the_mean_stays_at_rates_beyond_the_resolution(rate: float) -> None:
    many = torch.stack([_mask(rate, seed) for seed in range(20)]).double()
    assert many.mean().item() == pytest.approx(1, abs=0.25)


def test_masks_follow_the_generator_and_gradients_follow_the_mask() -> None:
    assert torch.equal(_mask(0.4, 1), _mask(0.4, 1))
    assert not torch.equal(_mask(0.4, 1), _mask(0.4, 2))
    values = torch.ones(SHAPE, requires_grad=True)
    dropout = Dropout(0.4)
    dropout.generator = torch.Generator().manual_seed(1)
    dropout(values).sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, _mask(0.4, 1))


def test_successive_masks_differ() -> None:
    dropout = Dropout(0.4)
    dropout.generator = torch.Generator().manual_seed(1)
    assert not torch.equal(dropout(torch.ones(SHAPE)), dropout(torch.ones(SHAPE)))


def test_words_are_those_published_for_their_generator() -> None:
    """https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64"""
    first = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert [word % 2**64 for word in masks.words(torch.tensor([1234567]), 5).tolist()] == first


@pytest.mark.parametrize("rate", [1e-7, 0.3, 0.5, 1 - 1e-7])
@pytest.mark.parametrize("count", [1, 2])
def test_compiled_masks_are_those_of_the_formula(rate: float, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with threads(count):
        compiled = _mask(rate)
    monkeypatch.setattr(masks, "can_run", lambda *_: False)
    assert torch.equal(compiled, _mask(rate))
