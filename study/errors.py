"""What can go wrong in a study.

StudyError               root
  UserError              the input is wrong: one sentence, exit code 2
    StudyFileError       a key or value of a study file or a search space
    UnknownStudyError    no study of that name
    StudyExistsError     a study of that name has been started before
    StudyLockedError     another driver holds the study
  UnequalError           arms did not spend what was declared, so nothing may be compared: exit code 1
  WorldError             the machine, database or cluster failed: exit code 1
"""

import textwrap


class StudyError(Exception):
    """Root of all errors raised on purpose by study."""


class UserError(StudyError):
    """The input is wrong; the message says where, what must hold and what came."""


class StudyFileError(UserError):
    """A key or value of a study file or a search space is wrong."""


class UnknownStudyError(UserError):
    """No study of that name is known here."""


class StudyExistsError(UserError):
    """A study of that name exists; `study resume` continues it."""


class StudyLockedError(UserError):
    """Another driver is running this study."""


class UnequalError(StudyError):
    """The study came to its end, but arms did not spend the declared budget, so the test split stays closed."""


class WorldError(StudyError):
    """The machine, the database, the cluster or the tracking server failed."""


def in_short(said: str) -> str:
    """The first line of what something else said, at most 200 characters."""
    return textwrap.shorten((said.strip().splitlines() or ["no message"])[0], 200, placeholder=" ...")


def named(error: Exception) -> str:
    """An error's class and what it says, in short: `OSError: No space left on device`."""
    return in_short(f"{type(error).__name__}: {str(error).strip() or 'no message'}")
