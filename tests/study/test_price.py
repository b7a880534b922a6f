"""What a study costs: the largest training of a space, and hours from prices."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from kge.documents import parse_config
from kge.footprint import Sizes, predicted
from study.errors import UserError
from study.price import DEAREST, MIDDLE, Price, cases, hours, largest, merged, middle, read_prices, sizes, write_prices
from study.space import Space, compose_all
from tests.study.study_files import config

SIZES = Sizes(entities=5_000, relations=20, train=50_000, valid=2_000)
PRICE = Price(arm="complex.ns", case=MIDDLE, seconds=7.0, batches=9, torch="2.13.0", commit="abc")
WIDE = (
    ("  model.dim: 32\n", ""),
    ("spaces:\n", "spaces:\n  model.dim: {int: [16, 48], step: 16}\n  training.batch_size: {choices: [64, 512]}\n"),
    ("  training.max_epochs: 3\n", "  training.max_epochs: 3\n  optimizer.name: adam\n  regularizer.name: none\n"),
)


def space_of(arm: str, *changes: tuple[str, str]) -> Space:
    return compose_all(config(*changes))[arm]


@pytest.mark.parametrize("arm", ["complex.sce", "complex.ns", "transe-l1.sce", "transe-l1.ns"])
def test_the_largest_training_is_that_of_all_corners(arm: str) -> None:
    space = space_of(arm, *WIDE)
    found = largest(space, SIZES)
    between = middle(space)
    sides = {
        "model.dim": [16, 32, 48],
        "training.batch_size": [64, 512],
        "model.reciprocal": [False, True],
        **({"negatives.head": [1, 1024], "negatives.tail": [1, 1024]} if arm.endswith("ns") else {}),
    }
    corners = [{**between, **dict(zip(sides, values, strict=True))} for values in product(*sides.values())]
    peaks = [
        [predicted(parse_config(space.config(each, seed=0)), SIZES, device=device).peak for device in ("cpu", "cuda")]
        for each in corners
    ]
    assert max(found.cpu, found.cuda) == max(max(each) for each in peaks)
    assert [found.cpu, found.cuda] in peaks
    assert {path: found.params[path] for path in ("model.dim", "training.batch_size")} == {
        "model.dim": 48,
        "training.batch_size": 512,
    }


def test_the_dearest_training_is_large_with_small_batches_and_learns_as_the_middle_does() -> None:
    space = space_of("complex.ns", *WIDE)
    between, dearest = cases(space, largest(space, SIZES))
    assert (between.name, dearest.name) == (MIDDLE, DEAREST)
    assert (dearest.config.model.dim, dearest.config.training.batch_size) == (48, 64)
    assert dearest.config.negatives.per_side == (1024, 1024)
    assert dearest.config.optimizer.lr == between.config.optimizer.lr == pytest.approx(1e-3**0.5)


def test_arms_that_train_alike_share_a_price_and_changed_ones_do_not() -> None:
    space = space_of("complex.ns")
    started = replace(space, arm=replace(space.arm, name="complex.ns-pre", checkpoint="best.pt"))
    wider = space_of("complex.ns", ("model.dim: 32", "model.dim: 64"))
    one, same, other = (cases(each, largest(each, SIZES))[0].sha256 for each in (space, started, wider))
    assert one == same != other


@pytest.mark.parametrize(
    ("budget", "search"), [("trials: 4", 4 * 3 * 7.0), ("epochs: 10", 10 * 7.0), ("device_seconds: 90.5", 90.5)]
)
def test_hours_are_epochs_times_their_price(budget: str, search: float) -> None:
    study = config(("trials: 4", budget))
    space = compose_all(study)["complex.ns"]
    [case, _] = cases(space, largest(space, SIZES))
    found = hours(study, space, case, {case.sha256: PRICE})
    assert (found.arm, found.seconds) == ("complex.ns", 7.0)
    assert found.search == pytest.approx(search / 3600)
    assert found.replicates == pytest.approx(2 * 3 * 7.0 / 3600)  # replicates of three epochs
    assert found.all == pytest.approx((search + 42) / 3600)


def test_what_has_no_price_has_no_hours() -> None:
    study = config()
    space = compose_all(study)["complex.ns"]
    [case, _] = cases(space, largest(space, SIZES))
    found = hours(study, space, case, {})
    assert (found.seconds, found.search, found.replicates, found.all) == (None, None, None, 0)


def test_prices_are_read_as_they_were_written_and_merged_by_device(tmp_path: Path) -> None:
    file = tmp_path / "new" / "prices.json"
    old = {"H100": {"a": PRICE, "b": PRICE}, "EPYC, 1 thread": {"a": PRICE}}
    write_prices(file, old)
    assert read_prices(file) == old
    dearer = replace(PRICE, seconds=8.0)
    assert merged(old, "H100", {"b": dearer, "c": dearer}) == {
        "H100": {"a": PRICE, "b": dearer, "c": dearer},
        "EPYC, 1 thread": {"a": PRICE},
    }
    assert [each.name for each in file.parent.iterdir()] == ["prices.json"]


RECORD = {"arm": "a", "case": "middle", "seconds": 1.0, "batches": 4, "torch": "2", "commit": ""}


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"format": 2, "devices": {}}',
        '{"format": 1}',
        '{"format": 1, "devices": []}',
        '{"format": 1, "devices": {"x": {"a": 3}}}',
        json.dumps({"format": 1, "devices": {"x": {"a": {**RECORD, "seconds": 0}}}}),
        json.dumps({"format": 1, "devices": {"x": {"a": {**RECORD, "seconds": "1"}}}}),
        json.dumps({"format": 1, "devices": {"x": {"a": {**RECORD, "euros": 1}}}}),
    ],
)
def test_what_are_no_prices_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "prices.json").write_text(content)
    with pytest.raises(UserError, match=r"prices\.json: must be prices as `study plan --measure` writes them, got "):
        read_prices(tmp_path / "prices.json")


def test_published_graphs_have_sizes_without_being_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KGE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("KGE_CACHE_DIR", str(tmp_path))
    assert sizes("fb15k-237") == Sizes(entities=14_541, relations=237, train=272_115, valid=17_535)
    assert sizes("synthetic").entities > 0
