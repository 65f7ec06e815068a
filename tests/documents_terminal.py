"""Types the commands of a page into a terminal, and reads what stays on its screen."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.documents import Command, Page, same_output

__all__ = ["differences", "transcript"]

_MARK: Final = "\x1e"  # ASCII's record separator: no command prints it
_CONTROL: Final = re.compile(r"(\x1b\[\??[\d;]*[A-Za-z]|[\r\n])")


def differences(page: Page, folder: Path, variables: Mapping[str, str]) -> str:
    """Types a page's commands in `folder`: each that did not print what the page shows, with what it printed."""
    return "\n".join(
        "\n".join([f"{command.place}: $ {command.text}", *(f"    {line}" for line in screen)])
        for command, screen in transcript(page, folder, variables)
        if not same_output(command.output, screen)
    )


def transcript(page: Page, folder: Path, variables: Mapping[str, str]) -> Iterator[tuple[Command, list[str]]]:
    """Each command of a page that is run, and the lines that it leaves on the screen.

    The files that the page shows are written as they come. `variables` is the whole environment but for the terminal's,
    which is one of util-linux's `script` and 120 columns wide.
    """
    commands: list[Command] = []
    script = ["stty cols 120"]
    for block in page.blocks:
        if block.file is not None:
            script += [f"mkdir -p {shlex.quote(str(Path(block.file).parent))}"]
            script += [f"printf %s {shlex.quote(block.text)} >{shlex.quote(block.file)}"]
        elif block.is_console and block.not_run is None:
            for command in block.commands():
                commands.append(command)
                script += [f"printf '{_MARK}'", command.text]
    with tempfile.NamedTemporaryFile("w", suffix=".sh", encoding="utf-8") as file:
        file.write("\n".join([*script, ""]))
        file.flush()
        done = subprocess.run(
            ["script", "--quiet", "--command", shlex.join(["bash", file.name]), os.devnull],
            cwd=folder,
            env={**variables, "TERM": "xterm", "SHELL": "/bin/sh"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=900,
            check=False,
        )
    sent = done.stdout.decode("utf-8", "replace").split(_MARK)[1:]
    assert len(sent) == len(commands), f"{page.name} does not run to its end:\n{done.stdout!r}\n{done.stderr!r}"
    return ((command, _screen(text)) for command, text in zip(commands, sent, strict=True))


def _screen(sent: str) -> list[str]:
    """The lines that are seen at the end, of a program that draws a line again, or takes it away (ECMA-48)."""
    lines, row = [""], 0
    for part in _CONTROL.split(sent):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.endswith("A") and part.startswith("\x1b"):
            row = max(0, row - 1)
        elif part.endswith("K") and part.startswith("\x1b"):
            lines[row] = ""
        elif part and part != "\r" and not part.startswith("\x1b"):
            lines[row] += part
    return lines[:-1] if not lines[-1] else lines
