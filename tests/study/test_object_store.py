"""Checkpoints at a URL: attempts that do not disturb each other, and what is refused before anything starts."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from kge.fitting import BEST, LAST
from study.errors import UserError, WorldError
from study.object_store import ObjectStore, Sender, forgetting, study_url
from study.records import Assignment, Measurement, Outcome
from study.trial import run_attempt
from tests.study.buckets import SECRET, Buckets, buckets
from tests.study.front_door import Home
from tests.study.test_trial import COMPLETE, CONFIG, values

TRIAL = Path("trials/complex.sce/4")
SMALL = """\
name: small
dataset: synthetic
arms: {models: [complex], losses: [sce]}
budget: {trials: 1}
search: {random_trials: 1}
"""


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def remote(kept: Path) -> ObjectStore:
    return ObjectStore(f"file://{kept}")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buckets]:
    with buckets(tmp_path_factory.mktemp("buckets")) as found:
        yield found


def attempt(tmp_path: Path, number: int) -> Assignment:
    return Assignment(
        study="s",
        arm="complex.sce",
        stage="search",
        trial=4,
        attempt=number,
        config=CONFIG,
        folder=str(tmp_path / "home"),
        directory=str(tmp_path / "home" / TRIAL),
    )


def sent(kept: Path) -> list[str]:
    return sorted(str(file.relative_to(kept)) for file in kept.rglob("*") if file.is_file())


def measured(events: list[Measurement | Outcome]) -> list[tuple[int, float, float, int]]:
    return [values(each) for each in events if isinstance(each, Measurement)]


def test_an_attempt_goes_on_from_what_the_last_has_sent_and_leaves_nothing_here(
    remote: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "node"))
    (tmp_path / "node").mkdir()
    *whole, _ = run_attempt(attempt(tmp_path / "whole", 0))
    first = run_attempt(attempt(tmp_path, 0), remote=remote)
    heard = [next(first), next(first)]
    first.close()
    assert not list((tmp_path / "node").glob("kge-*"))
    again, *rest, outcome = run_attempt(attempt(tmp_path, 1), remote=remote)
    assert outcome == COMPLETE
    assert measured([*heard, *rest]) == measured(whole)
    assert measured([again]) == measured(heard[-1:]), "what was sent is told again: its listener may have died"
    assert not (tmp_path / "home").exists()


def test_a_validation_is_heard_of_after_its_checkpoint_was_sent(
    remote: ObjectStore, kept: Path, tmp_path: Path
) -> None:
    events = run_attempt(attempt(tmp_path, 0), remote=remote)
    next(events)
    assert sent(kept) == [f"{TRIAL}/0/{BEST}", f"{TRIAL}/0/{LAST}"]
    events.close()


def test_a_predecessor_that_still_sends_disturbs_nobody(remote: ObjectStore, kept: Path, tmp_path: Path) -> None:
    cut_off = run_attempt(attempt(tmp_path, 0), remote=remote)
    next(cut_off)
    successor = run_attempt(attempt(tmp_path, 1), remote=remote)
    heard = [next(successor)]
    before = (kept / TRIAL / "1" / LAST).read_bytes()
    list(cut_off)  # goes on to its end
    assert (kept / TRIAL / "1" / LAST).read_bytes() == before
    heard += successor
    assert [epoch for epoch, *_ in measured(heard)] == [1, 2, 3]
    remote.fetch_best(TRIAL, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == (kept / TRIAL / "1" / BEST).read_bytes()


def test_what_ended_keeps_the_best_checkpoint_of_its_last_attempt(
    remote: ObjectStore, kept: Path, tmp_path: Path
) -> None:
    for number, files in enumerate([(BEST, LAST), (BEST, LAST), (LAST,)]):
        sender = Sender(remote, TRIAL, attempt=number, directory=written(tmp_path / str(number), files))
        sender.send()
    with forgetting(remote, tmp_path / "home") as forget:
        forget(tmp_path / "home" / TRIAL)
    assert sent(kept) == [f"{TRIAL}/1/{BEST}"]


def written(folder: Path, names: tuple[str, ...]) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_text(name)
    return folder


def test_a_checkpoint_that_is_missing_is_the_worlds_fault(remote: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(
        WorldError, match=rf"checkpoints at {remote.url}: must be there, got FileNotFoundError: no best"
    ):
        remote.fetch_best(TRIAL, tmp_path / BEST)


def test_a_store_that_is_away_loses_the_attempt_and_charges_nothing(
    remote: ObjectStore, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("study.object_store.PATIENCE", 0.0)
    kept.write_text("a file where the folder must be")
    with pytest.raises(WorldError, match="checkpoints at"):
        list(run_attempt(attempt(tmp_path, 0), remote=remote))


def test_a_new_study_finds_nothing_there(remote: ObjectStore, kept: Path) -> None:
    remote.check(new=True)
    assert not list(kept.iterdir())
    (kept / "old").write_text("of another study")
    with pytest.raises(UserError, match=rf"checkpoints at {remote.url}: must be empty when a study begins"):
        remote.check(new=True)
    remote.check(new=False)


class Keeping(LocalFileSystem):
    """Does not rename to a name that is taken, and does not say so."""

    protocol = "keeping"

    def mv(self, path1: str, path2: str, **_: object) -> None:
        if not self.exists(path2):
            super().mv(path1, path2)


def test_a_place_where_files_do_not_replace_each_other_is_refused(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules["fsspec.registry"].__dict__["_registry"], "keeping", Keeping)
    kept.mkdir()
    monkeypatch.chdir(kept.parent)
    must = "must let a file replace the one before it, got 'first' after 'second'"
    with pytest.raises(UserError, match=f"checkpoints at keeping://kept: {must}"):
        ObjectStore("keeping://kept").check(new=True)
    assert not list(kept.iterdir())


def test_a_bucket_is_a_place_to_write_to_and_keeps_nothing_of_the_check(
    served: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in served.variables.items():
        monkeypatch.setenv(name, value)
    ObjectStore("s3://studies/checked").check(new=True)
    assert served.keys("checked") == []


@pytest.mark.parametrize(
    ("url", "must"),
    [
        ("/shared/folder", "must be a URL such as s3://bucket/prefix"),
        ("nothing://x", "must be a URL such as s3://bucket/prefix"),
        ("file://tmp/x", "must be an absolute path such as file:///shared/folder, got 'file://tmp/x'"),
        ("local://tmp/x", "must be an absolute path"),
        ("file:tmp/x", "must be an absolute path"),
        ("memory://x", "must be a place that all nodes reach"),
        ("sftp://study:hunter2@host/x", "must hold neither a password nor a query"),
        ("nothing://study:hunter2@host/x", "must hold neither a password nor a query"),
    ],
)
def test_urls_that_can_be_no_place_are_refused(url: str, must: str) -> None:
    with pytest.raises(UserError, match=f"--checkpoints: {must}") as refused:
        study_url(url, "s")
    assert "hunter2" not in str(refused.value)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"].__dict__["_registry"], "s3", raising=False)
    with pytest.raises(
        UserError, match=r"checkpoints at s3://b/s: must have kge-study\[s3\] installed, got ImportError"
    ):
        ObjectStore("s3://b/s").check(new=True)


@pytest.mark.parametrize(
    ("url", "without", "got"),
    [
        ("s3://nowhere/x", (), "FileNotFoundError: The specified bucket does not exist"),
        ("s3://studies/x", ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "NoCredentialsError: Unable to locate cred"),
    ],
)
def test_a_bucket_that_cannot_be_written_ends_a_study_before_it_begins(
    served: Buckets, tmp_path: Path, url: str, without: tuple[str, ...], got: str
) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    variables = served.variables | dict.fromkeys(without, "")
    home = Home(tmp_path, "small", variables | {"KGE_STUDY_CHECKPOINTS": url})
    code, said = home.finish("run", str(tmp_path / "small.yaml"))
    assert code == 2
    assert said.startswith(f"error: checkpoints at {url}/small: must be a place to write to, got {got}")
    assert said.count("\n") == 1
    assert SECRET not in said
    assert not home.database.exists()
