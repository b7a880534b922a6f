"""What can go wrong in a study.

StudyError               root
  UserError              the input is wrong: one sentence, exit code 2
    StudyFileError       a key or value of a study file or a search space
    UnknownStudyError    no study of that name
    StudyExistsError     a study of that name has been started before
    StudyLockedError     another driver holds the study
  WorldError             the machine, database or cluster failed: exit code 1
"""


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


class WorldError(StudyError):
    """The machine, the database, the cluster or the tracking server failed."""
