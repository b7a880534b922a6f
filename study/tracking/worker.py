"""The mirror at work: read the study, send what is new, wait, until told to finish.

    python -m study.tracking.worker NAME HOME      (the database is in KGE_STUDY_DATABASE)

A round that fails is logged and the next one tries again. Rounds take a tenth of the time at most, so a
large study or a slow server makes them rare and never costs a core. The end of standard input and SIGTERM
both ask for one last round, which also sends the report and the models of finished arms.
"""

import fcntl
import logging
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from study.database import without_password
from study.errors import StudyError
from study.history import study_record
from study.records import StudyRecord
from study.tracking.mirror import SyncResult, sync
from study.tracking.process import artifact_folder, tracking_uri

PERIOD = 5.0  # seconds between rounds, at least
_SHARE = 0.1  # of the time that rounds may take
_NICE = 10  # trials come first

log = logging.getLogger("study.tracking")


def main() -> int:
    """Mirror until told to finish; 0 when MLflow is up to date at the end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    name, home = sys.argv[1], Path(sys.argv[2])
    database = os.environ["KGE_STUDY_DATABASE"]
    ending = _Ending()
    os.nice(_NICE)
    log.info("study %s goes to %s", name, without_password(tracking_uri(home)))
    complete = mirror(_Rounds(name=name, home=home, database=database), ending.within)
    log.info("ended: %s", "all is sent" if complete else f"`study sync {name}` sends what is missing")
    return 0 if complete else 1


def sync_command(*, name: str, home: Path, database: str) -> SyncResult:
    """Bring MLflow up to the study once, with its report if there is one; WorldError when that is impossible."""
    return _Rounds(name=name, home=home, database=database)(last=True)


def mirror(one_round: Callable[..., SyncResult], told_to_finish_within: Callable[[float], bool]) -> bool:
    """Rounds until told to finish, then the last; True when that one sent everything."""
    wait, trouble = 0.0, ""
    while True:
        last = told_to_finish_within(wait)
        began = time.monotonic()
        now = _trouble_of(one_round, last=last)
        if now != trouble:
            log.warning(now or "up to date again")
            trouble = now
        if last:
            return not trouble
        wait = max(PERIOD, (time.monotonic() - began) / _SHARE)


def _trouble_of(one_round: Callable[..., SyncResult], *, last: bool) -> str:
    """Run a round; what went wrong, or nothing."""
    try:
        return "; ".join(one_round(last=last).refused)
    except StudyError as error:
        return str(error)
    except Exception:  # noqa: BLE001  (nobody starts a mirror again that ended)
        return traceback.format_exc()


class _Rounds:
    """Reads the study and sends it, unless it is what was sent last."""

    def __init__(self, *, name: str, home: Path, database: str) -> None:
        self._name = name
        self._home = home.resolve()
        self._database = database
        self._sent: StudyRecord | None = None

    def __call__(self, *, last: bool) -> SyncResult:
        record = study_record(self._database, self._name)
        if record == self._sent and not last:
            return SyncResult()
        folder = self._home / self._name
        with _alone(folder):
            result = sync(
                record,
                uri=tracking_uri(self._home),
                artifacts=artifact_folder(self._home),
                report=folder / "report" if last else None,
                checkpoints=folder if last else None,
            )
        self._sent = None if result.refused else record
        return result


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One sync of a study at a time on this machine: two would both create the runs that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "tracking.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Ending:
    """The driver's word that it is over: standard input closed, SIGTERM, or no such driver any more."""

    def __init__(self) -> None:
        self._driver = os.getppid()
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def within(self, seconds: float) -> bool:
        """Wait, but no longer than until told to finish; True when told."""
        ready, _, _ = select.select([sys.stdin, self._woken], [], [], seconds)
        return bool(ready) or os.getppid() != self._driver


if __name__ == "__main__":
    sys.exit(main())
