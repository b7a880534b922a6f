"""Python starts every process with this when its folder is first on PYTHONPATH: a process dies at an exact point.

CRASH_AT holds moments (tests/crash/moments.py), as JSON. A moment names the process that it is for and what must
happen there, in order, as patterns of events; at the last one the process sends itself a signal. Events read

    before commit: insert kge_attempts ('serial', 'complex.sce', 'search', 0, ...)        and   after commit: ...
    before rename: /home/serial/trials/complex.sce/0/last.pt                              and   after rename: ...
    before remove: /home/serial/trials/complex.sce/0/last.pt                              and   after remove: ...
    before start: /usr/bin/python -m study.tracking.worker serial /home

Nothing of the program is replaced: what the standard library and SQLAlchemy do is told here first.
"""

import json
import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from signal import Signals
from typing import Any

_ROLES = {"study.cli": "driver", "default_worker.py": "worker"}  # by a word of the command line
_WRITES = re.compile(r"\s*(INSERT|UPDATE|DELETE)(?: INTO| FROM)? (\w+)")


class _FailPoint:
    """Events that are still to be seen, and what happens then."""

    def __init__(self, *, events: list[str], signal: str, whole_group: bool, marker: str, **_: str) -> None:
        self._events = events
        self._signal = Signals[signal]
        self._whole_group = whole_group
        self._marker = marker

    def see(self, event: str) -> None:
        if self._events and re.search(self._events[0], event):
            self._events = self._events[1:]
            if not self._events:
                self._hit(event)

    def _hit(self, event: str) -> None:
        try:
            descriptor = os.open(self._marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return  # another process was here
        os.write(descriptor, event.encode())
        os.close(descriptor)
        if self._whole_group:
            os.killpg(0, self._signal)
        else:
            os.kill(os.getpid(), self._signal)


def _watch(see: Callable[[str], None]) -> None:
    _watch_starts(see)
    for name, verb in (("replace", "rename"), ("rename", "rename"), ("unlink", "remove")):
        setattr(os, name, _told(getattr(os, name), verb, see))


def _told(call: Callable[..., Any], verb: str, see: Callable[[str], None]) -> Callable[..., Any]:
    """The same call, told before and after; the path is the last that it takes."""

    def telling(*paths: Any, **options: Any) -> Any:
        see(f"before {verb}: {paths[-1]}")
        result = call(*paths, **options)
        see(f"after {verb}: {paths[-1]}")
        return result

    return telling


def _watch_starts(see: Callable[[str], None]) -> None:
    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "subprocess.Popen":
            see(f"before start: {' '.join(map(str, arguments[1]))}")

    sys.addaudithook(hook)


def _watch_commits(see: Callable[[str], None]) -> None:
    import sqlalchemy as sa
    from sqlalchemy.engine.default import DefaultDialect

    written = threading.local()  # what this thread has written since its last commit

    @sa.event.listens_for(sa.Engine, "after_cursor_execute")
    def execute(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if match := _WRITES.match(statement):
            verb, table = match.groups()
            values = tuple(parameters.values()) if isinstance(parameters, dict) else parameters
            written.rows = [*getattr(written, "rows", ()), f"{verb.lower()} {table} {values}"]

    def ending(call: Callable[..., Any], verb: str) -> Callable[..., Any]:
        def end(*arguments: Any) -> None:
            event = f"{verb}: {'; '.join(getattr(written, 'rows', ()))}"
            written.rows = []
            see(f"before {event}")
            call(*arguments)
            see(f"after {event}")

        return end

    DefaultDialect.do_commit = ending(DefaultDialect.do_commit, "commit")  # type: ignore[method-assign]
    DefaultDialect.do_rollback = ending(DefaultDialect.do_rollback, "rollback")  # type: ignore[method-assign]


def _role() -> str:
    words = {Path(word).name for word in sys.orig_argv}
    return next((role for word, role in _ROLES.items() if word in words), "")


def _arm(points: list[dict[str, Any]]) -> None:
    role = _role()
    mine = [_FailPoint(**point) for point in points if point["role"] == role]

    def see(event: str) -> None:
        for point in mine:
            point.see(event)

    if mine:
        _watch(see)
    if mine and role == "driver":
        _watch_commits(see)


_arm(json.loads(os.environ.get("CRASH_AT", "[]")))
