"""What others wrote is shown, and not obeyed: names, texts of locks, output of programs."""

from __future__ import annotations

import io
import json
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.commands.terminal import progress_on_stderr
from klock.escaping import ForeignText, escaped, on_one_line
from klock.findings import Code, Finding
from klock.printing import show, show_text
from klock.words import first_of, some

LINES = {
    "ordinary text": ("src/naïve 文件 🎉.txt\tok", "src/naïve 文件 🎉.txt\tok"),
    "a carriage return": ("a\rb", r"a\x0db"),
    "a line above is cleared": ("a\x1b[1A\x1b[2Kb", r"a\x1b[1A\x1b[2Kb"),
    "C1 controls": ("a\x9b2Jb\x85", r"a\x9b2Jb\x85"),
    "a bell, a backspace, DEL, NUL": ("\a\b\x7f\0", r"\x07\x08\x7f\x00"),
    "text from right to left": ("a\u202etxt.exe", r"a\u202etxt.exe"),
    "isolates": ("\u2066a\u2069", r"\u2066a\u2069"),
    "no width": ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
    "tags": ("a\U000e0041", r"a\U000e0041"),
    "lines of Unicode": ("a\u2028b", r"a\u2028b"),
    "bytes that are not text": ("a\udcff\udc80", r"a\xff\x80"),
    "half a character": ("a\ud83d", r"a\ud83d"),
}


@pytest.mark.parametrize("case", LINES)
def test_what_is_shown(case: str) -> None:
    text, shown = LINES[case]
    assert escaped(text) == on_one_line(text) == shown


def test_a_line_break_in_a_name_makes_no_line_of_klocks() -> None:
    name = "x\nstale-file: step 1: forged\nhint: rm -rf /\nerror: no"
    assert [line[0] for line in escaped(name).splitlines()[1:]] == [" "] * 3
    assert "\n" not in on_one_line(name)
    assert first_of([name]) == some([name]) == on_one_line(name)


def test_lines_that_are_meant_stay() -> None:
    assert escaped("cannot meet it\n  a\nb\n\nhow: c") == "cannot meet it\n  a\nb\n\nhow: c"


@given(st.text())
def test_nothing_that_is_obeyed_or_unseen_is_left(text: str) -> None:
    for shown in (escaped(text), on_one_line(text)):
        shown.encode("utf-8")
        assert {unicodedata.category(c) for c in shown if c not in "\t\n"}.isdisjoint({"Cc", "Cs"})
        assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")


OUTPUT = {
    "as it is": ([b"a\n\tb\n"], "a\n\tb\n"),
    "colours": ([b"\x1b[1;31mred\x1b[0m\n"], "red\n"),
    "a colour in two pieces": ([b"\x1b[1;", b"31mred\x1b", b"[0m\n"], "red\n"),
    "a progress bar": ([b"1%\r2%\r", b"\n"], "1%\n2%\n"),
    "a screen that is cleared": ([b"\x1b[2Ja"], "\\x1b[2Ja"),
    "a title, a link": ([b"\x1b]0;x\x07"], "\\x1b]0;x\\x07"),
    "a character in two pieces": ([b"\xc3", b"\xa4\n"], "ä\n"),
    "no text": ([b"\xff\n"], "\\xff\n"),
    "what is not finished": ([b"a\x1b["], "a\\x1b["),
    "an 8-bit control": ([b"\xc2\x9b2J"], "\\x9b2J"),
    "a colour between the two halves of a line's end": ([b"a\r\x1b[3", b"1m", b"\nb"], "a\nb"),
}


@pytest.mark.parametrize("case", OUTPUT)
def test_the_output_of_a_program(case: str) -> None:
    pieces, shown = OUTPUT[case]
    text = ForeignText()
    assert "".join(map(text.feed, pieces)) + text.end() == shown


@given(
    st.lists(st.sampled_from([b"\x1b", b"[", b"1;", b"31m", b"\r", b"\n", b"x", "ä".encode(), b"\xff"]), max_size=12)
)
def test_pieces_make_no_difference(words: list[bytes]) -> None:
    whole, parts = ForeignText(), ForeignText()
    content = b"".join(words)
    one = whole.feed(content) + whole.end()
    other = "".join(parts.feed(content[n : n + 1]) for n in range(len(content))) + parts.end()
    assert one == other
    assert "\x1b" not in one and "\r" not in one


def test_progress_and_messages_pass_the_one_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from klock import printing

    monkeypatch.setenv("DB_PASSWORD", "hunter2x")
    printing._secrets.cache_clear()
    with progress_on_stderr(quiet=False, verbose=True) as progress:
        progress.begin("fetch a\x1b[2K")
        progress.output(b"\x1b[2Jout\r")
        progress.warn("a\x9bb")
        progress.note("the password is khunter2xk")
        progress.done("b\u202ec")
    printing._secrets.cache_clear()
    assert capsys.readouterr().err == (
        "fetch a\\x1b[2K\n\\x1b[2Jout\n  warning: a\\x9bb\n  the password is k***k\n  b\\u202ec\n"
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_an_encoding_has_not_is_shown_as_an_escape(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with PYTHONIOENCODING; else there would be a traceback in place of a name."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding))
    show("caf\u00e9 \u2192")
    show_text("\u2192")
    assert written.getvalue() == "caf\u00e9 \\u2192\n\\u2192".encode(encoding, "backslashreplace")


def test_findings_as_json_are_json() -> None:
    finding = Finding(code=Code.EXTRA, message="m", path="a\n\r\x1b[2K\udcff\u202e")
    text = json.dumps(finding.to_json())
    assert text.isascii() and text.isprintable()
    assert json.loads(text)["path"] == finding.path


def test_nothing_else_of_klock_prints() -> None:
    package = Path(__file__).parent.parent / "klock"
    allowed = {"printing.py", "entry.py"}
    prints = ("click.echo(", "sys.stdout.write", "sys.stderr.write", " print(", "click.secho(")
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        # These run in an environment, not here.
        if not path.name.endswith("_script.py") and any(p in path.read_text(encoding="utf-8") for p in prints)
    }
    assert found - allowed <= {"api.py", "steps/pip/writing.py"}  # in a docstring, in a script
