"""Counting by compiled loops and by tensor operations: the same numbers, whoever counts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kge import evaluation, native
from kge.evaluation import rank
from kge.filters import FilterIndex, filter_from
from tests.kge import graphs
from tests.kge.threads import threads

Pairs = tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]


def _counts(scores: Tensor, row: Tensor, answer: Tensor, known: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return evaluation._count(scores, row, answer), evaluation._count_others(scores, row, answer, known)


def _plain(pairs: Pairs) -> tuple[Tensor, Tensor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "_installed", lambda: False)
        patch.setattr(evaluation, "_COMPARED", 50)  # many parts
        return _counts(*pairs)


def _pairs(rows: int, entities: int, pairs: int, *, values: int = 5, seed: int = 0) -> Pairs:
    """Scores of few values, answers in any number per row, and about half of the entities known."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(values, (rows, entities), generator=generator).float() / 3
    row = torch.randint(rows, (pairs,), generator=generator).sort().values
    answer = torch.randint(entities, (pairs,), generator=generator)
    known = (torch.rand(rows, entities, generator=generator) < 0.5).nonzero(as_tuple=True)
    return scores, row, answer, known


def _same(pairs: Pairs) -> bool:
    return all(torch.equal(mine, twin) for mine, twin in zip(_counts(*pairs), _plain(pairs), strict=True))


@given(
    rows=st.integers(1, 5),
    entities=st.integers(1, 70),
    pairs=st.integers(0, 12),
    values=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_counts_are_those_of_tensor_operations(rows: int, entities: int, pairs: int, values: int, seed: int) -> None:
    assert _same(_pairs(rows, entities, pairs, values=values, seed=seed))


@pytest.mark.parametrize("entities", [1, 15, 1000, 20_011])
def test_counts_of_long_rows(entities: int) -> None:
    scores, row, answer, known = _pairs(7, entities, 40)
    assert _same((scores, row, answer, known))
    noise = torch.rand(scores.shape, generator=torch.Generator().manual_seed(1))
    assert _same((noise, row, answer, known))
    assert _same((noise.T.contiguous().T, row, answer, known))


def test_zeros_of_both_signs_tie_and_infinities_count() -> None:
    scores = torch.tensor([[0.0, -0.0, float("inf"), float("-inf"), 1e-45, float("inf")]])
    row, answer = torch.zeros(6, dtype=torch.int64), torch.arange(6)
    every, _ = _counts(scores, row, answer, (row[:0], answer[:0]))
    assert every.tolist() == [[3, 3, 0, 5, 2, 0], [1, 1, 1, 0, 0, 1], [6] * 6]
    assert _same((scores, row, answer, (row[:0], answer[:0])))


def test_counts_do_not_depend_on_threads() -> None:
    pairs = _pairs(7, 1000, 40)
    with threads(3):
        assert _same(pairs)


@pytest.mark.parametrize("name", ["complex", "transe", "rotate"])
def test_a_model_is_ranked_without_numba_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graphs.random_graph(entities=40, sizes=(300, 60, 60))
    known: FilterIndex = filter_from(graph, ("train", "valid"))
    model = graphs.build(name, entities=graph.num_entities, relations=graph.num_relations, dim=16)
    compiled = rank(model, graph.valid, known, block_size=8)
    monkeypatch.setattr(native, "_installed", lambda: False)
    for mine, plain in zip(compiled, rank(model, graph.valid, known, block_size=8), strict=True):
        for field in ("optimistic", "pessimistic", "candidates"):
            assert getattr(mine, field).tolist() == getattr(plain, field).tolist()


def test_loops_run_where_nothing_can_be_written(tmp_path: Path) -> None:
    """As in a container of read-only files, whose user has no home."""
    package = tmp_path / "kge"
    shutil.copytree(Path(native.__file__).parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "native" / "__pycache__").write_text("no folder can be made here")
    (home := tmp_path / "home").write_text("nor here")
    program = (
        "import torch; from kge import native; from kge.evaluation import _count; zero = torch.zeros(1, dtype=int);"
        "print(native.__file__, native.CACHED, _count(torch.ones(1, 3), zero, zero).tolist())"
    )
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.stdout.split(" ", 1) == [str(package / "native" / "__init__.py"), "False [[0], [2], [3]]\n"], found
