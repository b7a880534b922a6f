"""What a person sees of a download: one line a file, and on a terminal how much of it has come."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kge.downloads import download
from kge.errors import DownloadError
from tests.kge.command_line import ERASED, shown_on_terminal

CONTENT = bytes(range(256)) * 5000  # 1.28 MB, more than is read at once


@pytest.fixture
def server() -> Iterator[str]:
    """Gives the file at `/sized` with its size, at `/unsized` without, and no other."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path in ("/sized", "/unsized")
            self.send_response(200 if known else 404)
            if self.path == "/sized":
                self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            if known:
                self.wfile.write(CONTENT)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


@pytest.mark.parametrize(("name", "size"), [("sized", ", 1.28 MB"), ("unsized", "")])
def test_a_log_gets_one_line(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, size: str
) -> None:
    download(f"{server}/{name}", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert capsys.readouterr() == ("", f"downloading {server}/{name}{size}\n")


@pytest.mark.parametrize(("name", "said"), [("sized", "1.28 of 1.28 MB"), ("unsized", "1.28 MB")])
def test_a_terminal_sees_how_much_has_come(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    shown = shown_on_terminal(monkeypatch, lambda: download(f"{server}/{name}", tmp_path / "file"))
    first, moving, rest = shown.split("\r\n")
    assert first.startswith(f"downloading {server}/{name}")
    states = moving.split(ERASED)
    assert states[0] == ""
    assert states[1].startswith("0.07 "), "the first block"
    assert states[-1] == said
    assert rest == ""


def test_what_is_not_there_is_not_announced(server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DownloadError, match=r"cannot be downloaded \(HTTP Error 404"):
        download(f"{server}/other", tmp_path / "file")
    assert capsys.readouterr() == ("", "")
