"""Groups of commands that suggest a command where there is none of the name."""

from __future__ import annotations

from typing import Any, Final

import click

from klock.commands.verbosity import add_options

__all__ = ["Group", "ReaderGone"]

_ELSEWHERE: Final = {
    "build": "sync",
    "create": "sync",
    "exec": "run",
    "freeze": "export",
    "info": "status",
    "install": "sync",
    "list": "tree",
    "ps": "status",
    "show": "why",
    "uninstall": "remove",
    "update": "lock --upgrade",
    "upgrade": "lock --upgrade",
}
"""What other tools call a verb of klock's."""


class ReaderGone(Exception):
    """Whoever read what klock prints has closed the pipe. click itself would end with 1, which is for findings."""


class Group(click.Group):
    """As click's own; an unknown name leads to the commands that are close to it, and all have `-q` and `-v`."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        try:
            return super().make_context(*args, **options)  # prints what --help and --version ask for
        except BrokenPipeError as error:
            raise ReaderGone from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGone from error

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        command = super().get_command(ctx, name)
        return None if command is None else add_options(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from klock.words import did_you_mean

            names, name = self.list_commands(ctx), args[0]
            known = _ELSEWHERE.get(name, "")
            meant = f"did you mean {known}?" if known.partition(" ")[0] in names else did_you_mean(name, names)
            if meant is None:
                raise
            # Newer clicks suggest something themselves, of the commands that are loaded.
            raise click.UsageError(f"No such command {name!r}. {meant[0].upper()}{meant[1:]}", ctx) from error
