"""Archives of data sets: what is wanted comes out, nothing else goes anywhere."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from kge.archives import extract
from kge.errors import DataError

Files = Mapping[str, str]


def tar(path: Path, files: Files) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def zipped(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


BOTH = pytest.mark.parametrize("pack", [tar, zipped])
Pack = Callable[[Path, Files], Path]


def _refused(archive: Path, folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        extract(archive, {"x.txt": folder / "x.txt"}, where="here")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@BOTH
def test_a_path_that_leads_out_is_only_a_name(pack: Pack, tmp_path: Path) -> None:
    archive = pack(tmp_path / "bad", {"../../../x.txt": "wanted", "../evil.txt": "!", "/tmp/evil.txt": "!"})
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    before = set(tmp_path.rglob("*"))
    extract(archive, {"x.txt": folder / "x.txt"}, where="here")
    assert set(tmp_path.rglob("*")) - before == {folder / "x.txt"}
    assert (folder / "x.txt").read_text() == "wanted"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("x.txt")
        entry.type, entry.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
        archive.addfile(entry)
    assert _refused(tmp_path / "bad.tar.gz", tmp_path) == "here: must hold x.txt, got none named x.txt"
    assert not (tmp_path / "x.txt").exists()


@BOTH
def test_a_name_that_is_there_twice_is_refused(pack: Pack, tmp_path: Path) -> None:
    archive = pack(tmp_path / "bad", {"a/x.txt": "one", "b/x.txt": "other"})
    assert _refused(archive, tmp_path) == "here: must hold one file named x.txt, got two"


@BOTH
def test_a_damaged_archive_is_refused(pack: Pack, tmp_path: Path) -> None:
    whole = pack(tmp_path / "x", {"x.txt": "".join(f"{i * i}\n" for i in range(5000))}).read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:200] + b"\xff\x00\xff\x00" + whole[204:], b"", b"no archive"):
        (tmp_path / "x").write_bytes(damaged)
        assert _refused(tmp_path / "x", tmp_path).startswith("here: must be a whole .tar.gz or .zip, got ")
