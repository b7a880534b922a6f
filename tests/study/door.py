"""A door in front of a server: it lets requests through, holds them, or answers each with an error of its own."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import Request, urlopen

PATIENCE = 600.0
_OWN = {"host", "connection", "accept-encoding"}  # headers of one connection


class Door:
    """Open at first."""

    def __init__(self, server: str) -> None:
        self.server = server  # behind it
        self.uri = ""
        self.asked = 0  # requests that came
        self.broken = False
        self._open = threading.Event()
        self._open.set()

    def hold(self) -> None:
        """Keep what comes waiting, until the door is opened."""
        self._open.clear()

    def open(self) -> None:
        """Let everything through, what waits first."""
        self.broken = False
        self._open.set()

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes]:
        """Status and body."""
        self.asked += 1
        self._open.wait(PATIENCE)
        if self.broken:
            return 500, b"Internal Server Error"
        passed = {name: value for name, value in headers.items() if name.lower() not in _OWN}
        try:
            with urlopen(Request(self.server + path, body, passed, method=method), timeout=PATIENCE) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            return error.code, error.read()


@contextmanager
def door(server: str) -> Iterator[Door]:
    """A door to the server at this address."""
    made = Door(server)

    class Handler(BaseHTTPRequestHandler):
        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:  # who asked has ended
                self.close_connection = True

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
            status, answer = made.answer(self.command, self.path, self.headers, body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815  (names of the base class)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        made.uri = f"http://127.0.0.1:{listening.server_port}"
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        try:
            yield made
        finally:
            made.open()
            listening.shutdown()
