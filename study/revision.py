"""The study file that a resumed study goes on with: as it was, or amended.

The database keeps the file's text and where it lay. A file that has changed since is refused with the
difference, unless the change is meant (`--amend`); a change of comments or layout is none.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from kge.catalog import load
from study import amendment
from study.config import StudyConfig, load_study, parse_study
from study.errors import UserError
from study.records import Amendment
from study.sealing import sealed
from study.space import compose_all
from study.store import Registration, Store
from study.trial import with_start


@dataclass(frozen=True, kw_only=True)
class Revision:
    """What was said about the study file."""

    file: Path | None = None  # None: where it lay when the study was launched or amended last
    amend: bool = False
    reopen: bool = False  # the test split may be opened again


@dataclass(frozen=True, kw_only=True)
class Revised:
    """A study as it is to go on, and the amendment that makes it so; None where it goes on as it is."""

    study: Registration
    amendment: Amendment | None = None
    file: str | None = None  # that the amendment came from


def revised(store: Store, name: str, revision: Revision) -> Revised:
    """The study as it is to go on, nothing written; UserError when its file has changed and nothing was said of it."""
    study, known = store.registration(name), store.study_file(name)
    path = revision.file or (Path(known) if known else None)
    if path is None or not path.is_file():
        if revision.amend:
            raise UserError(f"study {name!r}: {path or 'its file'} must exist to amend it: `study resume FILE --amend`")
        return Revised(study=study)
    if path.read_bytes() == study.spec.encode() and not revision.reopen:
        return Revised(study=study)
    before, after = parse_study(study.spec, f"study {name}", dataset=study.dataset), load_study(path)
    if revision.amend:
        return _amended(store, study, before, after, reopen=revision.reopen)
    if not amendment.is_same(before, after):
        raise UserError(
            f"study {name!r}: {path} must say what it said when the study began, unless --amend is given,"
            f" got:\n{amendment.difference(before, after)}"
        )
    return Revised(study=study)


def written(store: Store, plan: Revised, *, say: Callable[[str], None]) -> Registration:
    """The study as it goes on from now, its amendment written down and told."""
    note = plan.amendment
    if note is not None:
        store.amend_study(plan.study, note, file=plan.file)
        say(f"amendment {note.number}: {'; '.join(note.changes)}{'; test may be opened again' if note.reopens else ''}")
    return plan.study


def _amended(store: Store, study: Registration, before: StudyConfig, after: StudyConfig, *, reopen: bool) -> Revised:
    """The study with every change; as it was where nothing is changed."""
    spaces, earlier, openings = compose_all(after), store.amendments(study.name), store.openings(study.name)
    changes = amendment.changes(before, after, cards=study.spaces, spaces=spaces)
    opened = sorted({opening.arm for opening in openings})  # once is enough: a permission that was not used is no other
    if opened and not reopen and amendment.needs_reopening(before, after):
        raise UserError(
            f"study {study.name!r}: budget, replicates and failures must stay as they are, the test split was opened"
            f" ({', '.join(opened)}); --reopen lets it be opened again, and the report will say so"
        )
    if not changes and not (reopen and sealed(openings, earlier)):
        return Revised(study=study)
    note = Amendment(
        number=len(earlier) + 1,
        spec=after.text,
        spec_sha256=after.sha256,
        changes=changes or ("nothing but the seal",),
        reopens=reopen,
        time=time.time(),
    )
    known, dataset = {arm.name: arm for arm in study.arms}, load(study.dataset)
    amended = replace(
        study,
        spec=after.text,
        spec_sha256=after.sha256,
        arms=tuple(known.get(arm.name) or with_start(arm, spaces[arm.name], dataset) for arm in after.arms),
        spaces=tuple(spaces[arm.name].card() for arm in after.arms),
        budget=after.budget,
        replicates=after.replicates,
        identical_errors=after.identical_errors,
    )
    return Revised(study=amended, amendment=note, file=str(Path(after.document.path).resolve()))
