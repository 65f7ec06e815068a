"""The command line. One module per verb, imported when that verb is used: start-up is part of every command's time.

stdout is data, stderr is talk. Exit status: 0 clean, 1 findings, 2 error, 130 interrupted; `run` passes its
command's own.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from klock.commands.groups import Group, ReaderGone
from klock.commands.verbosity import add_options, verbosity_options, wanted
from klock.errors import Interrupted, KlockError
from klock.printing import say, say_error, show
from klock.verbs import VERBS

__all__ = ["main"]


class _Verbs(Group):
    """A group whose commands are found by name in this folder."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        module = name.replace("-", "_")
        command = getattr(import_module(f"klock.commands.{module}"), module)
        assert isinstance(command, click.Command)
        return add_options(command)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from klock.version import __version__

        show(f"klock {__version__}")
        ctx.exit()


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Print it.")
def klock() -> None:
    """Reproducible environments for Python in containers, from an image definition and a lockfile."""


klock.params += verbosity_options()


def main(arguments: Sequence[str] | None = None, *, raised: BaseException | None = None) -> NoReturn:
    """Runs the command line and ends the process with its status.

    `raised` is what came of it already, which is only told.
    """
    _open_closed_streams()
    try:
        if raised is not None:
            raise raised
        status = _elsewhere(sys.argv[1:] if arguments is None else arguments)
        if status is not None:
            sys.exit(status)
        status = klock.main(args=arguments, prog_name="klock", standalone_mode=False)
    except KlockError as error:
        if wanted().verbose > 1:
            import traceback

            say("".join(traceback.format_exception(error)).rstrip())
        say_error(error.message, error.hint)
        sys.exit(2)
    except click.exceptions.Exit as ending:
        sys.exit(ending.exit_code)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(file=shown)
        say(shown.getvalue().rstrip("\n"))
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort) as error:
        # Within a command click makes the one the cause of the other.
        interrupt = error.__cause__ if isinstance(error, click.Abort) else error
        known = interrupt.message if isinstance(interrupt, Interrupted) else None
        state = known or "the lockfile and the environment are as they were"
        say(f"interrupted: {state}")
        sys.exit(130)
    except (ReaderGone, BrokenPipeError):
        # What is left in their buffers is for nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say_error(f"{where}{error.strerror or error}", "the lockfile and the environment are as they were")
        sys.exit(2)
    except MemoryError:
        say_error("there is not enough memory", "the lockfile and the environment are as they were")
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


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
