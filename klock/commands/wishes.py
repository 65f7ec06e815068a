"""How much the user wants to be told: `-q` and `-v` of the command line."""

from __future__ import annotations

from klock.values import dataclass

__all__ = ["Verbosity", "wanted"]


@dataclass(slots=True, kw_only=True)
class Verbosity:
    """How often each option was given. `-v` shows what steps print and where the time goes. `-vv` also shows what klock
    asks of servers, and where in klock an error comes from."""

    quiet: int = 0
    verbose: int = 0


_wanted = Verbosity()
"""One for the process, which runs one command."""


def wanted() -> Verbosity:
    """What the command line says so far."""
    return _wanted
