"""Where the program `klock` begins: with the quickest answer, or else with the command line.

A quick answer ends the process at once: Python would take an eighth of the time to put away what the kernel takes back.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["main"]

_QUICK = ("lock", "sync", "check")
"""The verbs that may have nothing to do."""


def main() -> NoReturn:
    """Runs the command line of this process and ends it with its status; see `klock.commands`."""
    if sys.getfilesystemencoding() != "utf-8":
        _begin_again_in_utf_8()
    arguments = sys.argv[1:]
    _answer_at_once(arguments)
    _collect_seldom()
    raised = None
    if "KLOCK_WORKSHOP" in os.environ or sys.platform != "linux":
        pass  # what is here is not what it is about
    elif arguments and arguments[0] == "run":
        raised = _run_at_once(arguments)
    elif arguments and arguments[0] in _QUICK:
        from klock.unchanged.note import answer

        known = answer(arguments)
        if known is not None:
            if sys.stderr is not None:
                sys.stderr.write(known + "\n")
            _end(0)
        from klock.unchanged.watching import watch

        watch(arguments)
    from klock.commands import main as run

    try:
        run(arguments, raised=raised)
    except SystemExit as ending:
        _end_at_once(ending.code)
        raise


def _begin_again_in_utf_8() -> NoReturn:
    """A file's name is the same bytes in every locale, so it must also be the same text."""
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _collect_seldom() -> None:
    """Python looks for cycles after every 700 new objects. That takes a thirtieth of a short command, which makes none,
    and a tenth of a large sync, which makes few."""
    import gc

    gc.set_threshold(100_000, 50, 50)


def _run_at_once(arguments: list[str]) -> BaseException | None:
    """Ends the process with the status of the command, if it is known how it starts. Else it is watched.

    Returns what is to be told instead.
    """
    from klock.unchanged.note import answer
    from klock.unchanged.running import options_of

    options = options_of(arguments)
    # A stream that is closed has to be opened first: else the next file would be taken for it.
    if options is None or None in (sys.stdin, sys.stdout, sys.stderr):
        return None
    launch = answer(options)
    if launch is not None:
        from klock.places import starter

        start = starter(launch)
        if start is not None:
            try:
                status = start(arguments[len(options) :])
            except (Exception, KeyboardInterrupt) as error:
                return error
            _end(status)
    from klock.unchanged.watching import watch

    watch(options)
    return None


def _end(status: int) -> NoReturn:
    _end_at_once(status)
    sys.exit(status)


def _end_at_once(status: object) -> None:
    """Ends the process as Python does, but without freeing one by one what it has in memory: that takes a twentieth of
    a second after a lock. Returns where something is still to be done, or to be said.
    """
    import atexit

    threads = sys.modules.get("threading")
    is_watched = sys.gettrace() is not None or sys.getprofile() is not None
    if not isinstance(status, int) or is_watched or (threads is not None and threads.active_count() > 1):
        return
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (AttributeError, OSError, ValueError):
        return  # Python says so
    os._exit(status & 0xFF)


def _answer_at_once(arguments: list[str]) -> None:
    """Ends the process if it was only asked what klock is, or what Tab completes."""
    if "_KLOCK_COMPLETE" in os.environ:
        from klock.completing import answer_to_shell

        shown = answer_to_shell()
    else:
        from klock.verbs import answer_to

        shown = answer_to(arguments)
    if shown is not None and sys.stdout is not None:
        try:
            sys.stdout.write(shown)
            sys.stdout.flush()
        except OSError:
            return  # the command line says what is wrong
        _end(0)
