"""Joined models score by the mean of their members' scores, and are models like any other."""

from pathlib import Path

import pytest
import torch

from kge import catalog, checkpoint
from kge.fitting import BEST, load_model
from kge.joining import can_join
from kge.models import MODELS
from tests.kge.command_line import Kge

JOINABLE = [name for name, each in MODELS.items() if can_join(each)]


def _trained(kge: Kge, name: str, *values: str) -> str:
    sets = [part for each in values for part in ("--set", each)]
    ran = kge("train", "small.yaml", "--directory", name, "--device", "cpu", "--set", "training.max_epochs=1", *sets)
    assert ran.code == 0
    return f"{name}/{BEST}"


def test_products_of_three_numbers_and_of_blocks_can_be_joined() -> None:
    assert set(JOINABLE) == {"rescal", "distmult", "complex", "cp", "simple"}


@pytest.mark.parametrize("reciprocal", ["false", "true"])
@pytest.mark.parametrize("model", JOINABLE)
def test_a_joined_model_scores_by_the_mean(kge: Kge, model: str, reciprocal: str) -> None:
    alike = (f"model.name={model}", f"model.reciprocal={reciprocal}", "model.init.name=normal", "model.init.std=1")
    paths = [_trained(kge, f"m{dim}", *alike, f"model.dim={dim}", f"seed={dim}") for dim in (4, 8, 6)]
    ran = kge("join", *paths, "--out", "joined.pt")
    assert (ran.code, ran.out, ran.err) == (0, "joined.pt\n", "")
    found = checkpoint.load(Path("joined.pt"))
    assert checkpoint.config_of(found).model.dim == 18
    assert [each["seed"] for each in found["joined"]] == [4, 8, 6]
    dataset = catalog.load("graph")
    heads = torch.arange(dataset.num_entities).repeat_interleave(dataset.num_relations)
    relations = torch.arange(dataset.num_relations).repeat(dataset.num_entities)
    merged, *members = (load_model(Path(path), dataset)[0] for path in ("joined.pt", *paths))
    for ask in ("score_tails", "score_heads"):
        first, second = (heads, relations) if ask == "score_tails" else (relations, heads)
        mean = torch.stack([getattr(each, ask)(first, second) for each in members]).mean(0)
        torch.testing.assert_close(getattr(merged, ask)(first, second), mean)


def test_a_joined_model_is_ranked_exported_and_trained_further(kge: Kge) -> None:
    paths = [_trained(kge, f"m{seed}", f"seed={seed}") for seed in (1, 2)]
    assert kge("join", *paths, "--out", "new/joined.pt").code == 0
    assert kge("evaluate", "new/joined.pt", "--split", "valid", "--device", "cpu").code == 0
    assert kge("export", "new/joined.pt", "out").code == 0
    _trained(kge, "further", "model.dim=16", "pretrain.checkpoint=new/joined.pt")


def test_what_cannot_be_joined_is_refused(kge: Kge) -> None:
    first, tucker = _trained(kge, "first"), _trained(kge, "tucker", "model.name=tucker")
    other, reciprocal = _trained(kge, "other", "model.name=distmult"), _trained(kge, "both", "model.reciprocal=true")
    for paths, said in (
        ((first, other), f"{other}: model.name must be 'complex' as in {first}, got 'distmult'"),
        ((first, reciprocal), f"{reciprocal}: model.reciprocal must be false as in {first}, got true"),
        (
            (tucker, tucker),
            f"{tucker}: model.name must be one that can be joined ({', '.join(JOINABLE)}), got 'tucker'",
        ),
        ((first, f"./{first}"), "models to join: must be different ones, got one file twice"),
        ((first, "none.pt"), "none.pt: must be a checkpoint, but it does not exist"),
    ):
        ran = kge("join", *paths, "--out", "joined.pt")
        assert (ran.code, ran.err) == (2, f"error: {said}\n")
        assert not Path("joined.pt").exists()
    assert kge("join", first, first, "--out", first).err == f"error: {first}: must not exist yet, but it does\n"
    assert "give two checkpoints or more" in kge("join", first, "--out", "joined.pt").err


def test_models_of_another_graph_are_refused(kge: Kge) -> None:
    first = _trained(kge, "first")
    Path("graph/valid.tsv").write_text("b\tlikes\tb\n")
    second = _trained(kge, "second")
    ran = kge("join", second, first, "--out", "joined.pt")
    assert (ran.code, f"{first}: must be of data set" in ran.err) == (2, True)
