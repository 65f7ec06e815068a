"""The manual page says what `--help` says, in roff that has no warnings."""

from __future__ import annotations

import re
import shutil
import subprocess

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.commands.line import klock
from klock.manual import manual
from klock.verbs import VERBS

PAGE = manual(klock, version="1.0")


def test_every_verb_and_every_option_is_there() -> None:
    sections = re.findall(r"^\.SS klock (.+)$", PAGE, re.MULTILINE)
    assert list(dict.fromkeys(each.split()[0].replace("\\-", "-") for each in sections)) == list(VERBS)
    context = click.Context(klock)
    check = klock.get_command(context, "check")
    assert check is not None
    part = PAGE.partition(".SS klock check\n")[2].partition(".SS")[0]
    shown = {option.opts[-1] for option in check.params if isinstance(option, click.Option) and not option.hidden}
    assert {name for name in shown if name.replace("-", "\\-") in part} == shown - {"--quiet", "--verbose"}


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not here")
def test_groff_has_no_word_to_say() -> None:
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww"], input=PAGE, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    text = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)
    assert "--fail-on KINDS" in text
    assert "EXIT STATUS" in text


@given(st.text(alphabet=".'-\\ab\n ", min_size=1, max_size=12))
def test_no_text_is_a_request_of_roff(text: str) -> None:
    page = manual(click.Group("klock", help=text), version="1")
    after = page.partition(".SH DESCRIPTION\n")[2].partition(".SH OPTIONS")[0]
    lines = after.splitlines()
    assert [line for line in lines if line[:1] in (".", "'") and line != ".PP"] == []
    assert not re.search(r"(?<!\\)(?:\\\\)*\\[^e\-&]", after)
