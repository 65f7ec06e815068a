"""`-q` and `-v` are for all commands alike, before the verb and after it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from klock.commands.line import klock
from klock.commands.wishes import Verbosity, wanted


def commands(group: click.Group, *above: str) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*above, name)
        if isinstance(command, click.Group):
            yield from commands(command, *above, name)


@pytest.mark.parametrize("words", list(commands(klock)), ids=" ".join)
def test_every_command_has_them(words: tuple[str, ...]) -> None:
    group: click.Command | None = klock
    for word in words:
        assert isinstance(group, click.Group)
        group = group.get_command(click.Context(group), word)
    assert group is not None
    assert [option.opts for option in group.params if option.name in ("quiet", "verbose")] == [
        ["-q", "--quiet"],
        ["-v", "--verbose"],
    ]


LINES = {
    ("-q", "cache", "dir"): Verbosity(quiet=1),
    ("cache", "-v", "dir", "-v"): Verbosity(verbose=2),
    ("-v", "cache", "dir", "--verbose", "-q"): Verbosity(quiet=1, verbose=2),
    ("cache", "dir", "-vvv"): Verbosity(verbose=3),
    ("cache", "dir"): Verbosity(),
}


@pytest.mark.parametrize(("words", "expected"), LINES.items(), ids=[" ".join(words) for words in LINES])
def test_where_they_stand_makes_no_difference(
    words: tuple[str, ...], expected: Verbosity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("klock.commands.wishes._wanted", Verbosity())
    monkeypatch.setattr("klock.commands.verbosity._say_requests", lambda: None)
    klock.main(list(words), standalone_mode=False)
    assert wanted() == expected


def test_v_v_says_where_in_klock_an_error_is_from(tmp_path: Path) -> None:
    done = [
        subprocess.run(
            [sys.executable, "-m", "klock", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        for words in (("check",), ("-vv", "check"))
    ]
    assert [each.returncode for each in done] == [2, 2]
    assert "Traceback" not in done[0].stderr and "Traceback" in done[1].stderr
    assert done[1].stderr.endswith(done[0].stderr)


def test_v_v_says_what_servers_are_asked_without_credentials(tmp_path: Path) -> None:
    script = (
        "import urllib3; from klock.commands import verbosity; verbosity._say_requests();"
        "import logging; log = logging.getLogger('urllib3.connectionpool');"
        "path = '/a?X-Amz-Signature=0123456789abcdef';"
        "log.debug('%s://%s:%s \"%s %s %s\" %s %s', 'https', 'h', 443, 'GET', path, 1, 200, 5);"
        "log.debug('Starting new HTTPS connection (%d): %s:%s', 1, 'h', 443)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "GET https://h/a?X-Amz-Signature=***: 200\n"
