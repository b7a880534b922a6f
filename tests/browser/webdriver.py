"""A real browser, driven over plain HTTP: the few commands of WebDriver that the tests need.

https://www.w3.org/TR/webdriver2/ ; needs chromium and chromedriver (Debian: chromium, chromium-driver).
"""

import base64
import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.ports import free_port

PATIENCE = 90.0  # seconds; a machine may be busy
ENTER = "\ue007"
ALL = "\ue009a\ue000"  # Control-A: what is typed next replaces all
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for a reference to an element
_ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1600,900")

T = TypeVar("T")


class WebDriverError(Exception):
    """What the browser could not do: its own code and message."""


@dataclass(frozen=True)
class Element:
    """Something on the page."""

    _command: Callable[..., Any]
    _id: str

    @property
    def text(self) -> str:
        return str(self._command("GET", f"/element/{self._id}/text"))

    def click(self) -> None:
        self._command("POST", f"/element/{self._id}/click", {})

    def type(self, text: str) -> None:
        self._command("POST", f"/element/{self._id}/value", {"text": text})


@dataclass(frozen=True)
class Browser:
    """One window of it."""

    session: str  # the address of the session

    def open(self, address: str) -> None:
        self._command("POST", "/url", {"url": address})

    @property
    def address(self) -> str:
        return str(self._command("GET", "/url"))

    def script(self, code: str, *arguments: object) -> Any:
        """What the body of a function of `arguments` returns."""
        return self._command("POST", "/execute/sync", {"script": code, "args": list(arguments)})

    def all(self, selector: str) -> list[Element]:
        """By CSS selector, or by XPath where it begins with a slash."""
        using = "xpath" if selector.startswith("/") else "css selector"
        found = self._command("POST", "/elements", {"using": using, "value": selector})
        return [Element(self._command, each[_ELEMENT]) for each in found]

    def one(self, selector: str) -> Element:
        """The first of them, as soon as there is one."""
        return self.until(lambda: self.all(selector), selector)[0]

    def click(self, selector: str) -> None:
        """As soon as it can be clicked on: pages that still draw put things before it."""
        self.until(lambda: self.one(selector).click() or True, f"a click on {selector}")

    @contextlib.contextmanager
    def inside(self, selector: str) -> Iterator[None]:
        """Commands go to the document of this frame."""
        self.one(selector)
        found = self._command("POST", "/element", {"using": "css selector", "value": selector})
        self._command("POST", "/frame", {"id": found})
        try:
            yield
        finally:
            self._command("POST", "/frame", {"id": None})

    def until(self, look: Callable[[], T], what: str) -> T:
        """What `look` returns once that is something; what it finds may be replaced while it looks."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(WebDriverError):
                if found := look():
                    return found
            time.sleep(0.1)
        raise AssertionError(f"{self.address} does not show {what} but:\n{self.one('body').text[:3000]}")

    def picture(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self._command("GET", "/screenshot")))

    def _command(self, method: str, path: str, body: object = None) -> Any:
        return _request(method, self.session + path, body)


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A Chromium of its own, with its profile in `folder`; gone afterwards."""
    port = free_port()
    command = [shutil.which("chromedriver") or "chromedriver", f"--port={port}"]
    with (folder / "chromedriver.log").open("wb") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        root = f"http://127.0.0.1:{port}"
        _wait_until_ready(root, driver)
        options = {"args": [*_ARGUMENTS, f"--user-data-dir={folder / 'profile'}"]}
        capabilities = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        session = f"{root}/session/{_request('POST', f'{root}/session', {'capabilities': capabilities})['sessionId']}"
        try:
            yield Browser(session)
        finally:
            _request("DELETE", session)
    finally:
        driver.terminate()
        driver.wait()


def _wait_until_ready(root: str, driver: "subprocess.Popen[bytes]") -> None:
    while driver.poll() is None:
        with contextlib.suppress(OSError):
            if _request("GET", f"{root}/status")["ready"]:
                return
        time.sleep(0.1)
    raise AssertionError("chromedriver ended before it was ready")


def _request(method: str, address: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(address, data=data, method=method, headers={"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=2 * PATIENCE) as answer:
            return json.load(answer)["value"]
    except HTTPError as error:
        said = json.load(error)["value"]
        raise WebDriverError(f"{said['error']}: {said['message'].splitlines()[0]}") from None
