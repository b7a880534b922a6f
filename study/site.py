"""Where a study lives: a folder of its own below a home folder, and a database.

HOME/NAME/study.db  trials/  replicates/  ranks/  selection.json  report/  prices.json  driver.log  tracking.log

Checkpoints may be kept at a URL instead (study.object_store). That is said once, when the study begins.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kge.files import is_writable
from kge.names import instead
from study.database import parsed, sqlite_file, sqlite_url
from study.errors import UnknownStudyError, UserError
from study.layout import REPLICATES, TRIALS
from study.object_store import ObjectStore, study_url
from study.store import Store


@dataclass(frozen=True, kw_only=True)
class Site:
    """One study's place. Paths are absolute: workers have working folders of their own."""

    name: str
    home: Path
    database: str

    @property
    def folder(self) -> Path:
        """The study's own folder."""
        return self.home / self.name

    def has_study(self) -> bool:
        """True when a study of this name has been registered; makes no file."""
        if self._missing is not None:
            return False
        with suppress(UnknownStudyError):
            store = Store(self.database)
            try:
                store.registration(self.name)
            finally:
                store.close()
            return True
        return False

    def open(self) -> Store:
        """The store of a study that exists; UnknownStudyError otherwise. Makes no file."""
        if self._missing == self.folder / "study.db":
            if Path(self.name).suffix in {".yaml", ".yml"}:
                came = "a study file" if Path(self.name).is_file() else "a file that does not exist"
                raise UnknownStudyError(f"{self.name}: must be the name of a study, got {came}")
            known = sorted(file.parent.name for file in self.home.glob("*/study.db"))
            raise UnknownStudyError(f"study {self.name!r} is unknown in {self.home} {instead(self.name, known)}")
        if self._missing is not None:
            raise UnknownStudyError(f"study {self.name!r} is unknown: there is no file {self._missing}")
        return Store(self.database)

    def check_fresh(self) -> None:
        """UserError where a study cannot begin: nothing can be written, or trainings of another one lie there.

        A new study would go on from those, uncharged.
        """
        for what, folder in (("--home", self.home), ("folder of the study", self.folder)):
            if not is_writable(folder):
                raise UserError(f"{what}: must be a folder that can be written, got {folder}")
        for name in (TRIALS, REPLICATES):
            folder = self.folder / name
            if folder.is_dir() and any(folder.iterdir()):
                raise UserError(
                    f"{folder}: must be empty where a study begins, it holds the trainings of an earlier one"
                    f" that {self.name!r} in this database is not; move it away, or give this study another name"
                )

    @property
    def _missing(self) -> Path | None:
        """The file of the database, where it is to be one and is not there."""
        file = sqlite_file(self.database)
        return None if file is None or file.exists() else file


def site(name: str, *, home: Path | None = None, database: str | None = None) -> Site:
    """The place of a study by options, else by KGE_STUDY_HOME and KGE_STUDY_DATABASE, else ./runs and SQLite."""
    if name in ("", ".", "..") or Path(name).name != name:
        raise UserError(f"study name: must be the name of a folder, got {name!r}")
    root = (home or Path(os.environ.get("KGE_STUDY_HOME") or "runs")).resolve()
    url = database or os.environ.get("KGE_STUDY_DATABASE") or sqlite_url(root / name / "study.db")
    if (parts := parsed(url)).get_backend_name() == "sqlite" and parts.database in {None, "", ":memory:"}:
        raise UserError(f"database: must be a file where it is SQLite, such as sqlite:///runs/study.db, got {url!r}")
    return Site(name=name, home=root, database=url)


def remote(name: str, url: str | None = None) -> ObjectStore | None:
    """Where a new study keeps its checkpoints, by option, else by KGE_STUDY_CHECKPOINTS; None: in its folder."""
    given = url or os.environ.get("KGE_STUDY_CHECKPOINTS")
    return ObjectStore(study_url(given, name)) if given else None
