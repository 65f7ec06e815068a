"""The command line. One module per verb, imported when that verb is used: start-up is part of every command's time.

stdout is data, stderr is talk. Exit status: 0 clean, 1 findings, 2 error, 130 interrupted; `run` passes its
command's own.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, ParamSpec

from klock.commands.wishes import wanted
from klock.errors import Interrupted, KlockError
from klock.printing import say, say_error

__all__ = ["BadCommandLine", "main"]

P = ParamSpec("P")
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


class BadCommandLine(Exception):
    """A command line that klock cannot read. Its text is all that the user sees."""


def main(arguments: Sequence[str] | None = None, *, raised: BaseException | None = None) -> NoReturn:
    """Runs the command line and ends the process with its status.

    `raised` is an error that the command line has already led to: it is only shown.
    """
    _open_closed_streams()
    _end_as_by_ctrl_c()
    try:
        if raised is not None:
            raise raised
        arguments = sys.argv[1:] if arguments is None else arguments
        status = _elsewhere(arguments)
        if status is not None:
            sys.exit(status)
        status = _status_of(arguments)
    except KlockError as error:
        if wanted().verbose > 1:
            import traceback

            say("".join(traceback.format_exception(error)).rstrip())
        _fail(2, say_error, error.message, error.hint)
    except BadCommandLine as error:
        _fail(2, say, str(error))
    except KeyboardInterrupt as interrupt:
        _fail_interrupted(interrupt)
    except OSError as error:
        if (interrupted := _interrupt_before(error)) is not None:
            _fail_interrupted(interrupted)
        if isinstance(error, BrokenPipeError):
            # What is left in their buffers is for nobody.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stderr.close()
            sys.exit(141)
        where = f"{error.filename}: " if error.filename else ""
        reason = f"{where}{error.strerror or error}"
        _fail(2, say_error, reason, "the lockfile and the environment are as they were")
    except MemoryError:
        _fail(2, say_error, "there is not enough memory", "the lockfile and the environment are as they were")
    sys.exit(status)


def _status_of(arguments: Sequence[str]) -> int:
    from klock.commands.plain import plain_sync

    plain = plain_sync(arguments)
    if plain is not None:
        return plain()
    from klock.commands.line import status_of

    return status_of(arguments)


class _Ended(KeyboardInterrupt):
    """A signal that asks the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _end_as_by_ctrl_c() -> None:
    """Lets a signal end klock as Ctrl-C does, so that klock restores what is half done, such as an edited image file.

    A cancelled pipeline sends SIGTERM, and a closed terminal SIGHUP.
    """

    def end(number: int, _: object) -> None:
        for each in _ENDING:
            signal.signal(each, signal.SIG_IGN)
        raise _Ended(number)

    for number in _ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:  # under nohup it stays ignored
            signal.signal(number, end)


def _fail(status: int, tell: Callable[P, None], *args: P.args, **named: P.kwargs) -> NoReturn:
    """Tells what happened and ends with `status`, even if nobody reads stderr: Python's own status would then be 1,
    which means findings."""
    try:
        tell(*args, **named)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.exit(status)


def _fail_interrupted(interrupt: KeyboardInterrupt) -> NoReturn:
    known = interrupt.message if isinstance(interrupt, Interrupted) else None
    state = known or "the lockfile and the environment are as they were"
    number = interrupt.number if isinstance(interrupt, _Ended) else signal.SIGINT
    _fail(128 + number, say, f"interrupted: {state}")


def _interrupt_before(error: OSError) -> KeyboardInterrupt | None:
    """What klock was ending for when it could not write: with Ctrl-C the reader of its output ends, too, and a terminal
    that is closed takes no words."""
    before = error.__context__ if error.errno in (errno.EPIPE, errno.EIO) else None
    while before is not None and not isinstance(before, KeyboardInterrupt):
        before = before.__context__
    return before


def _elsewhere(arguments: Sequence[str]) -> int | None:
    """The status of a command line that is to be run in a container; None for all others."""
    if sys.platform == "linux" and not {"KLOCK_WORKSHOP", "DOCKER_HOST", "CONTAINER_HOST"} & os.environ.keys():
        return None
    from klock.elsewhere import asked_for, run_elsewhere

    engine = asked_for(arguments)
    if engine is None:
        return None
    from klock.commands.terminal import progress_on_stderr

    is_quiet = bool({"-q", "--quiet"} & set(arguments))
    return run_elsewhere(engine, arguments, progress_on_stderr(quiet=is_quiet, verbose=False))


def _open_closed_streams() -> None:
    """Opens /dev/null in place of a standard stream that is closed: else the next file opened would be taken for it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8"))
