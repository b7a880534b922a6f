"""Ray jobs: any `study` command, run on a cluster instead of here.

The client needs the address of the cluster's job server and nothing else. A job outlives the client that
submitted it; its log is followed from any shell. The study's database, not Ray, knows how far a study is, so
a study whose job is gone is resumed by a new job. Whoever may list jobs reads their arguments and variables:
no secret is ever among them.
"""

import asyncio
import dataclasses
import json
import logging
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from kge.names import instead
from study.database import has_password, sqlite_file
from study.environment import environment
from study.errors import UnknownStudyError, UserError, WorldError, in_short
from study.resources import KINDS, resource_folder

STUDY_FILE = "study.yaml"  # as the study file is called in a job's folder
DRIVING = ("run", "resume", "replicate")  # commands that bring a study on
_STUDY, _COMMAND, _TERMS = "kge-study", "kge-command", "kge-terms"  # keys of a job's metadata
_PATIENCE = 60.0  # seconds that a cluster may need between its start and its first job
_POLL = 0.5  # seconds between two looks at a job that has nothing more to say
_SIGNALS = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "60"}  # Ray's own way leaves 3 s to settle
_HOME = '"${KGE_STUDY_HOME:-$HOME/kge-study}"'  # a job's own folder is not kept
_PRELUDE = "Running entrypoint for job "  # the last line that is Ray's own in a job's log
_OURS = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")  # Ray would take these for the address, whatever it is given


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Where on the cluster a study lives (None: where the cluster's own variables say), and whose program runs it."""

    home: str | None = None
    database: str | None = None
    with_code: bool = False  # this very program is sent along

    def __post_init__(self) -> None:
        file = sqlite_file(self.database) if self.database else None
        for option, path in (("--home", self.home), ("--database", file)):
            if path is not None and not Path(path).is_absolute():
                raise UserError(f"{option}: must be an absolute path on the cluster, got {str(path)!r}")
        if self.database and has_password(self.database):
            raise UserError(
                "--database: must hold no password, because every user of the cluster can read the arguments of a job;"
                " PGPASSWORD or ~/.pgpass on the head gives it"
            )

    def but(self, other: "Terms") -> "Terms":
        """These terms, but for what the others say."""
        home, database = other.home or self.home, other.database or self.database
        return Terms(home=home, database=database, with_code=other.with_code or self.with_code)

    @property
    def options(self) -> str:
        """The place as options of a command line."""
        database = f" --database {shlex.quote(self.database)}" if self.database else ""
        return f"--home {shlex.quote(self.home) if self.home else _HOME}{database}"


class _Client(Protocol):
    """What is used of Ray's client."""

    def submit_job(self, **options: Any) -> str: ...
    def get_job_info(self, job_id: str) -> Any: ...
    def list_jobs(self) -> list[Any]: ...
    def tail_job_logs(self, job_id: str) -> Any: ...


class Jobs:
    """The jobs of a cluster by the address of its job server, such as http://head:8265."""

    def __init__(self, address: str) -> None:
        if not address.startswith(("http://", "https://")):
            raise UserError(f"--address: must be that of a job server such as http://head:8265, got {address!r}")
        logging.getLogger("ray").handlers[:] = [logging.NullHandler()]  # it tells every step of every request
        for variable in _OURS:
            os.environ.pop(variable, None)
        self._address = address
        self._client: _Client = self._reached(lambda: JobSubmissionClient(address))

    def submit(
        self,
        arguments: Sequence[str],
        *,
        study: str,
        terms: Terms,
        file: str | None = None,
    ) -> str:
        """Start `study ARGUMENTS` on the cluster and return the job's id.

        `file` is the text of a study file, which the job finds as STUDY_FILE.
        """
        metadata = {_STUDY: study, _COMMAND: arguments[0], _TERMS: json.dumps(dataclasses.asdict(terms))}
        runtime: dict[str, Any] = {"env_vars": _SIGNALS | (_commit() if terms.with_code else {})}
        with tempfile.TemporaryDirectory(prefix="kge-job-") as folder:
            if _fill(Path(folder), file=file, with_code=terms.with_code):
                runtime["working_dir"] = folder
            return self._submit(
                entrypoint=f"python -m study.cli {shlex.join(arguments)} {terms.options}",
                metadata=metadata,
                runtime_env=runtime,
            )

    def _submit(self, **job: Any) -> str:
        """Submit, waiting for the agents of a cluster that has just been started."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return str(self._reached(lambda: self._client.submit_job(**job)))
            except WorldError as error:
                if "No available agent" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(_POLL)

    def latest(self, study: str) -> str:
        """The last job that ran or resumed a study; UnknownStudyError when there is none."""
        driving = self._driving()
        mine = [job for job in driving if job.metadata[_STUDY] == study]
        if not mine:
            known = instead(study, sorted({job.metadata[_STUDY] for job in driving}))
            raise UnknownStudyError(f"study {study!r}: no job at {self._address} has run it {known}")
        return str(mine[-1].submission_id)

    def terms(self, study: str) -> Terms:
        """Those of the last job that ran or resumed a study."""
        told = [job.metadata[_TERMS] for job in self._driving() if job.metadata[_STUDY] == study]
        return Terms(**json.loads(told[-1])) if told else Terms()

    def _driving(self) -> list[Any]:
        """The jobs that brought studies on, the latest last."""
        jobs = [job for job in self._reached(self._client.list_jobs) if job.metadata and _STUDY in job.metadata]
        return sorted((job for job in jobs if job.metadata[_COMMAND] in DRIVING), key=lambda job: job.start_time or 0)

    def follow(self, job: str, write: Callable[[str], None]) -> int:
        """Pass on what a job writes, line by line from its beginning, until it ends; its exit code."""
        lines, read = _Lines(write), 0
        while True:
            ended = self._has_ended(job)
            more, whole = self._tail(job, lines.feed, skip=read)
            read += more
            if ended or (whole and self._has_ended(job)):
                lines.flush()
                return self._exit_code(job)
            time.sleep(_POLL)

    def _tail(self, job: str, feed: Callable[[str], None], *, skip: int) -> tuple[int, bool]:
        """Follow a job's log behind its first `skip` characters; how many were read, and whether to the log's end."""

        async def pass_on() -> tuple[int, bool]:
            seen = 0
            with suppress(RuntimeError, aiohttp.ClientError, OSError):  # whoever follows asks again, for the rest
                async for chunk in self._client.tail_job_logs(job):
                    feed(chunk[max(0, skip - seen) :])
                    seen += len(chunk)
                return max(0, seen - skip), True
            return max(0, seen - skip), False

        return asyncio.run(pass_on())

    def _has_ended(self, job: str) -> bool:
        return bool(self._reached(lambda: self._client.get_job_info(job)).status.is_terminal())

    def _exit_code(self, job: str) -> int:
        info = self._reached(lambda: self._client.get_job_info(job))
        if info.driver_exit_code is None:  # it never came to its command, or was taken from it
            raise WorldError(f"job {job}: must run to its end, got: {_first_line(info.message)}")
        return int(info.driver_exit_code)

    def _reached(self, call: Callable[[], Any]) -> Any:
        """The result of a call to the job server; its many kinds of failure in one sentence."""
        must = f"job server {self._address}: must"
        try:
            return call()
        except AuthenticationError as error:
            got = _first_line(str(error))
            raise UserError(
                f"{must} be shown its token, by RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE, got: {got}"
            ) from None
        except (RuntimeError, ConnectionError, ValueError, requests.RequestException) as error:
            raise WorldError(f"{must} answer, got {type(error).__name__}: {_first_line(str(error))}") from None


class _Lines:
    """Whole lines out of pieces of text, without those that Ray writes before a job begins."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._rest = ""
        self._begun = False

    def feed(self, text: str) -> None:
        """Write the lines that are complete now."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if self._begun:
                self._write(line)
            self._begun = self._begun or _PRELUDE in line

    def flush(self) -> None:
        """Write what is left; all of it where the job never began."""
        if self._rest:
            self._write(self._rest)


def _commit() -> dict[str, str]:
    """What a program that is sent along cannot find out any more: its commit."""
    commit = environment().get("git commit")
    return {"KGE_STUDY_COMMIT": commit} if commit else {}


def _fill(folder: Path, *, file: str | None, with_code: bool) -> bool:
    """Put into a job's folder what it is to find there; False when that is nothing."""
    if file is not None:
        (folder / STUDY_FILE).write_text(file)
    if with_code:
        here = Path(__file__).resolve().parent
        sources = {"study": here, "kge": here.parent / "kge", **{kind: resource_folder(kind) for kind in KINDS}}
        for name, source in sources.items():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "_data"))
    return file is not None or with_code


def _first_line(message: str | None) -> str:
    """The first line that says something; the server wraps its own errors in JSON."""
    text = (message or "no reason given").strip()
    with suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(text)["msg"])
    return in_short(text)
