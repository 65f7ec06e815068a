"""What klock writes as TOML is read back as it was, by Python's own reader, and one entry is one line."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.toml_text import entries, tables

texts = st.text(st.characters(exclude_categories=["Cs"]))
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
values: st.SearchStrategy[Any] = st.recursive(
    texts | st.integers(-(2**63), 2**63 - 1) | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
)


@given(st.dictionaries(keys, values, max_size=5))
def test_every_value_is_read_back(document: dict[str, Any]) -> None:
    assert tomllib.loads(entries(document)) == document


@given(st.lists(st.dictionaries(st.sampled_from("ab"), values), max_size=3), st.dictionaries(keys, values, max_size=3))
def test_tables_are_read_back(rows: list[dict[str, Any]], more: dict[str, Any]) -> None:
    with_more = [*rows, {"a": 1, "tool": {"klock": more}}]
    assert tomllib.loads(tables("rows", with_more, apart="tool")) == {"rows": with_more}


LINES = {
    "text": ("x", 'k = "x"\n'),
    "what would end a text": ('a"b\\c\x7f\x1b', 'k = "a\\"b\\\\c\\u007f\\u001b"\n'),
    "lines": ("set -e\n\tls\n", "k = '''set -e\n\tls\n'''\n"),
    "lines with a carriage return": ("a\r\nb", 'k = "a\\r\\nb"\n'),
    "lines that begin with an empty one": ("\na", 'k = "\\na"\n'),
    "one item": (["x"], 'k = ["x"]\n'),
    "several items": (["x", "y\nz"], 'k = [\n    "x",\n    "y\\nz",\n]\n'),
    "a table in an array": ([{"a": True}], "k = [\n    {a = true},\n]\n"),
    "arrays in an array": ([["x", "y"]], 'k = [["x", "y"]]\n'),
    "a table": ({"a b": {"c": 1}}, 'k = {"a b" = {c = 1}}\n'),
}


@pytest.mark.parametrize(("value", "text"), LINES.values(), ids=LINES)
def test_the_text(value: object, text: str) -> None:
    assert entries({"k": value}) == text


def test_what_toml_does_not_have_here() -> None:
    with pytest.raises(TypeError, match="no float"):
        entries({"k": [1.5]})
