"""Expansion of variables: the rules of os.path.expandvars, in order, against the container's variables."""

from __future__ import annotations

import os
import re
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.image.expansion import ExpandedVariable, expand, expand_value

CONTAINER = {"PATH": "/usr/bin:/bin", "HOME": "/root", "EMPTY": "", "DOLLAR": "$HOME", "BACK": "\\"}

CASES: dict[str, tuple[list[tuple[str, str]], list[str]]] = {
    "23: an empty value": ([("A", "")], [""]),
    "24: a variable of the same step": ([("BASE", "/usr/local"), ("B", "$BASE/bin")], ["/usr/local", "/usr/local/bin"]),
    "25: the PATH of the container": ([("BIN", "/b"), ("PATH", "$BIN:$PATH")], ["/b", "/b:/usr/bin:/bin"]),
    "25: PATH twice": ([("PATH", "/a:$PATH"), ("PATH", "/c:$PATH")], ["/a:/usr/bin:/bin", "/c:/a:/usr/bin:/bin"]),
    "26: undefined": ([("A", "$U/x"), ("B", "${U}"), ("C", "/opt/lib:${L}")], ["$U/x", "${U}", "/opt/lib:${L}"]),
    "26: braces": ([("A", "${HOME}/data")], ["/root/data"]),
    "26: defined as empty": ([("A", "[$EMPTY]")], ["[]"]),
    "26: no name": ([("A", "$"), ("B", "$$"), ("C", "${}"), ("D", "$-")], ["$", "$$", "${}", "$-"]),
    "26: braces that do not close": ([("A", "${HOME")], ["${HOME"]),
    "26: the longest name": ([("A", "$HOMEX")], ["$HOMEX"]),
    "27: an escaped dollar": ([("A", r"\$LITERAL"), ("B", r"\${HOME}")], ["$LITERAL", "${HOME}"]),
    "27: an escaped dollar before a name that is set": ([("A", r"\$HOME")], ["$HOME"]),
    "27: other backslashes": ([("A", r"C:\x\\y")], [r"C:\x\\y"]),
    "28: a forward reference": ([("A", "$B"), ("B", "1")], ["$B", "1"]),
    "29: quotes": ([("A", '"q v"'), ("B", "'$HOME'")], ['"q v"', "'/root'"]),
    "30: spaces and newlines": ([("A", " a  b\nc ")], [" a  b\nc "]),
    "a value is not expanded again": ([("A", "$DOLLAR")], ["$HOME"]),
    "an expanded backslash escapes nothing": ([("A", "$BACK$HOME")], ["\\/root"]),
    "itself": ([("A", "1"), ("A", "$A$A")], ["1", "11"]),
}


@pytest.mark.parametrize("case", CASES)
def test_expansion(case: str) -> None:
    variables, values = CASES[case]
    assert expand(variables, CONTAINER) == [
        ExpandedVariable(name, written, value) for (name, written), value in zip(variables, values, strict=True)
    ]


NAMES = st.sampled_from(["A", "B", "AB", "_1", "é"])
TEXTS = st.text(alphabet="$\\{}AB_1 é/:'\"\n", max_size=20)


@given(TEXTS, st.dictionaries(NAMES, TEXTS))
def test_without_an_escape_it_is_expandvars(written: str, environment: dict[str, str]) -> None:
    written = re.sub(r"\\+\$", "$", written)
    with mock.patch.dict(os.environ, environment, clear=True):
        assert expand_value(written, environment) == os.path.expandvars(written)


@given(TEXTS, st.dictionaries(NAMES, TEXTS))
def test_escaping_every_dollar_gives_the_text_itself(text: str, environment: dict[str, str]) -> None:
    assert expand_value(text.replace("$", r"\$"), environment) == text


@given(st.lists(st.tuples(NAMES, TEXTS)), st.dictionaries(NAMES, TEXTS))
def test_the_environment_is_not_changed_and_each_step_sees_the_last(
    variables: list[tuple[str, str]], environment: dict[str, str]
) -> None:
    before = dict(environment)
    expanded = expand(variables, environment)
    assert environment == before
    seen = dict(environment)
    for variable, (name, written) in zip(expanded, variables, strict=True):
        assert variable == (name, written, expand_value(written, seen))
        seen[name] = variable.value
