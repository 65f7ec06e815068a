"""The whole command line, with help and errors, as click reads it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib import import_module

import click

from klock.commands import BadCommandLine
from klock.commands.groups import Group, ReaderGone
from klock.commands.verbosity import add_options, verbosity_options
from klock.printing import show
from klock.verbs import VERBS

__all__ = ["klock", "status_of"]


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


def status_of(arguments: Sequence[str]) -> int:
    """Runs a command line and returns its status. Raises the errors that `klock.commands.main` shows."""
    try:
        status = klock.main(args=arguments, prog_name="klock", standalone_mode=False)
    except click.exceptions.Exit as ending:
        return ending.exit_code
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(file=shown)
        raise BadCommandLine(shown.getvalue().rstrip("\n")) from error
    except click.Abort as error:
        # If a command was interrupted, click gives that as the cause.
        raise error.__cause__ or KeyboardInterrupt from None
    except ReaderGone as error:
        raise BrokenPipeError from error
    return status if isinstance(status, int) else 0
