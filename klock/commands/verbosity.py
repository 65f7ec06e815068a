"""`-q` and `-v`: before the verb or after it, for all commands alike, and what they have klock say."""

from __future__ import annotations

from typing import Any

import click

from klock.commands.wishes import wanted

__all__ = ["add_options", "verbosity_options"]


def _count(ctx: click.Context, option: click.Parameter, times: int) -> None:
    if not times or ctx.resilient_parsing:
        return
    if option.name == "quiet":
        wanted().quiet += times
    else:
        was = wanted().verbose
        wanted().verbose = was + times
        if was < 2 <= wanted().verbose:
            _say_requests()


def verbosity_options() -> list[click.Parameter]:
    """The two, which give no argument to their command."""
    shared: dict[str, Any] = {"count": True, "expose_value": False, "callback": _count}
    return [
        click.Option(["-q", "--quiet"], help="Show no progress.", **shared),
        click.Option(["-v", "--verbose"], help="Show what steps print, and where the time goes; -vv more.", **shared),
    ]


def add_options(command: click.Command) -> click.Command:
    """Gives them to a command that has not got them yet."""
    if not any(option.name == "quiet" for option in command.params):
        command.params += verbosity_options()
    return command


def _say_requests() -> None:
    """Has each request to a server told on stderr, without its credentials."""
    import logging

    from klock.printing import say
    from klock.secrets.urls import normal_url

    class Said(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # As urllib3.connectionpool logs what was answered; the rest is about connections.
            if not isinstance(record.args, tuple) or len(record.args) != 8:
                return
            scheme, host, port, method, path, _, status, _ = record.args
            say(f"{method} {normal_url(f'{scheme}://{host}:{port}{path}', ())}: {status}")

    asked = logging.getLogger("urllib3.connectionpool")
    asked.setLevel(logging.DEBUG)
    asked.addHandler(Said())
    asked.propagate = False
