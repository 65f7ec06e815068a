"""Numbers and lists in sentences."""

from __future__ import annotations

import pytest

from klock.words import ago, counted, first_of, in_bytes, listed


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (0, "step", "0 steps"),
        (1, "step", "1 step"),
        (2, "step", "2 steps"),
        (1, "entry", "1 entry"),
        (2, "entry", "2 entries"),
    ],
)
def test_a_number_of_things(number: int, noun: str, words: str) -> None:
    assert counted(number, noun) == words


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (12_345_678, "12.3 MB"),
        (999_949_999, "999.9 MB"),
        (5_000_000_000_000, "5000.0 GB"),
    ],
)
def test_bytes_have_decimal_units(size: int, words: str) -> None:
    assert in_bytes(size) == words


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a, b"),
        (["a", "b", "c"], "a, b and 1 more"),
        (["a", "b", "c", "d"], "a, b and 2 more"),
    ],
)
def test_in_a_sentence_the_first_names_stand_for_all(names: list[str], words: str) -> None:
    assert first_of(names, most=2) == words


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], ""),
        (["a"], "\n  a"),
        (["a", "b"], "\n  a\n  b"),
        (["a", "b", "c"], "\n  a\n  b\n  and 1 more"),
    ],
)
def test_below_a_sentence_each_line_stands_alone(lines: list[str], words: str) -> None:
    assert listed(lines, most=2) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "just now"),
        (59.9, "just now"),
        (60, "1 minute ago"),
        (7199, "1 hour ago"),
        (90000, "1 day ago"),
        (8.64e6, "100 days ago"),
    ],
)
def test_how_long_ago_is_told_in_the_largest_unit(seconds: float, words: str) -> None:
    assert ago(seconds) == words
