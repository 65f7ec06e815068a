"""The only place where klock prints: stdout is data, stderr is talk. Whatever is said passes here, and nothing of it is
obeyed by a terminal, forges a line of klock's own, or shows a credential of this process's variables."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import TextIO

from klock.escaping import escaped, on_one_line

__all__ = ["say", "say_error", "say_note", "say_output", "show", "show_text"]


def say(text: str, *, indent: str = "") -> None:
    """A message on stderr, which may have several lines."""
    _write(sys.stderr, indent + escaped(_without_secrets(text)) + "\n")


def say_error(message: str, hint: str | None) -> None:
    """Why klock could not do it, and what to do next."""
    say(f"error: {message}")
    if hint:
        say("")
        say(f"hint: {hint}")


def say_note(text: str) -> None:
    """What could not be found out, on stderr. Lines after the first are indented, as they belong to it."""
    say("note: " + text.replace("\n", "\n  "))


def say_output(text: str) -> None:
    """What a program printed, free of credentials and fit to show (`klock.escaping.ForeignText`), on stderr."""
    _write(sys.stderr, text)


def show(line: str) -> None:
    """One thing on one line of stdout."""
    _write(sys.stdout, on_one_line(_without_secrets(line)) + "\n")


def show_text(text: str) -> None:
    """A document for other programs on stdout: byte for byte, unless it is a terminal that would obey it."""
    _write(sys.stdout, escaped(text) if sys.stdout.isatty() else text)


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:  # PYTHONIOENCODING, such as ascii
        stream.write(text.encode(stream.encoding, "backslashreplace").decode(stream.encoding))
    stream.flush()


def _without_secrets(text: str) -> str:
    """Messages are free of the credentials that their makers know of. Those that none of them thought of are here."""
    secrets = _secrets()
    if not secrets:
        return text
    from klock.secrets.masking import mask_known

    return mask_known(text, secrets)


@cache
def _secrets() -> tuple[str, ...]:
    from klock.secrets.values import SHORTEST_SEARCHED, is_secret, may_be_secret

    return tuple(
        value
        for name, value in os.environ.items()
        if len(value) >= SHORTEST_SEARCHED and is_secret(name, value) and may_be_secret(value)
    )
