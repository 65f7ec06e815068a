"""The manual page klock(1), made of what `--help` says: roff of the macros of man (man(7))."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import click

__all__ = ["manual"]

_STATUS: Final = (
    ("0", "success"),
    ("1", "findings"),
    ("2", "an error; the lockfile and the environment are as they were, unless it says so"),
    ("124", "of run: a service was not ready in time"),
    ("130", "interrupted"),
)


def manual(program: click.Group, *, version: str) -> str:
    """The page. Each command has a section, in the order of the overview."""
    lines = [
        f'.TH KLOCK 1 "" "klock {_escaped(version)}" "User Commands"',
        ".SH NAME",
        "klock \\- reproducible environments",
    ]
    lines += [".SH SYNOPSIS", ".B klock", "[OPTIONS] COMMAND [ARGS]...", ".SH DESCRIPTION"]
    context = click.Context(program, info_name="klock", **program.context_settings)
    lines += [*_paragraphs(program.help), ".SH OPTIONS", *_options(program, context), ".SH COMMANDS"]
    for path, command, inner in _commands(program, context):
        usage = " ".join(command.collect_usage_pieces(inner))
        lines += [f".SS {_escaped(' '.join(path))}", f".B {_escaped(' '.join(path))}", _escaped(usage), ".PP"]
        lines += [*_paragraphs(command.help), *_options(command, inner)]
    lines.append(".SH EXIT STATUS")
    for status, meaning in _STATUS:
        lines += [".TP", f".B {status}", _escaped(meaning)]
    lines += [".PP", "run ends with the status of its command."]
    return "".join(f"{line}\n" for line in lines)


def _commands(
    group: click.Group, context: click.Context
) -> Iterator[tuple[Sequence[str], click.Command, click.Context]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context, **command.context_settings)
        if isinstance(command, click.Group):
            yield from _commands(command, inner)
        else:
            yield inner.command_path.split(), command, inner


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for option in command.get_params(context):
        record = option.get_help_record(context) if isinstance(option, click.Option) else None
        # All commands have these; the page says them once.
        if record is None or (context.parent is not None and option.name in ("quiet", "verbose", "help")):
            continue
        yield ".TP"
        yield f".B {_escaped(record[0])}"
        yield _escaped(record[1])


def _paragraphs(text: str | None) -> Iterator[str]:
    for number, paragraph in enumerate(re.split(r"\n\s*\n", (text or "").strip())):
        if number:
            yield ".PP"
        yield _escaped(" ".join(paragraph.split()))


def _escaped(text: str) -> str:
    """Text that roff takes as it is (groff_char(7)): no dash becomes a hyphen, and no line a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text
