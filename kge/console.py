"""Exit codes and error lines of both command lines.

A user's mistake is one line and exit code 2, a failure of the world (memory is one) one line and 1, an interruption
130. Anything else is a defect in this program and keeps its traceback.
"""

import errno
import sys
from typing import NoReturn

import click

from kge.errors import first_line

INTERRUPTED = 130  # as of a shell: 128 and the number of SIGINT


def run(command: click.Command, *, user: tuple[type[Exception], ...], world: tuple[type[Exception], ...]) -> NoReturn:
    """Run a command line and leave the process with the right code."""
    try:
        code = command.main(standalone_mode=False)
    except click.exceptions.Abort:
        _fail("interrupted", INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        _fail(error.format_message(), 2)
    except user as error:
        _fail(str(error), 2)
    except world as error:
        _fail(str(error), 2 if _is_too_long(error) else 1)
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        reason = first_line(error)
        _fail(f"memory: must hold what this needs, got: {reason}", 1)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"error: {message}" if code != INTERRUPTED else message, err=True)
    sys.exit(code)


def _is_too_long(error: Exception) -> bool:
    """A name that no file can have: only a user gives one."""
    return isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG


def _is_out_of_memory(error: Exception) -> bool:
    """What is known without torch, and where torch is there already what it knows."""
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from kge.memory import is_out_of_memory  # noqa: PLC0415 (imports torch)

    return is_out_of_memory(error)
