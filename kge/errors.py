"""What can go wrong in kge.

KgeError                 root
  UserError              the input is wrong: one sentence, exit code 2
    ConfigError          a key or value of a configuration
    DataError            a file or folder of triples, or a data set's name
    CheckpointError      a checkpoint that is missing, damaged or of another configuration
  DownloadError          a host that cannot be reached, or has not what is to be fetched
  DivergenceError        a loss or score became NaN or infinite
  ExhaustedError         not even a row at a time fits into memory
"""


class KgeError(Exception):
    """Root of all errors raised on purpose by kge."""


class UserError(KgeError):
    """The input is wrong; the message says where, what must hold and what came."""


class ConfigError(UserError):
    """A key or value of a configuration is wrong."""


class DataError(UserError):
    """A file of triples, a folder or a data set's name is wrong."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged or was written by another configuration."""


class DownloadError(KgeError, OSError):
    """A file cannot be fetched; an OSError, like all else that the world does to who reads a data set."""


class DivergenceError(KgeError):
    """A loss or a score became NaN or infinite."""


class ExhaustedError(KgeError):
    """Memory holds not even sub-batches and blocks of one row."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its class where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
