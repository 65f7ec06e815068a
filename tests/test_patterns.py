"""A pattern that is compiled later is one that was compiled at once, to whoever uses it."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.patterns import regex


@given(st.sampled_from(["a+", r"(?P<x>[0-9]{2})|b", r"\w*"]), st.text("ab01", max_size=8))
def test_it_finds_what_re_finds(text: str, searched: str) -> None:
    later, now = regex(text, re.IGNORECASE), re.compile(text, re.IGNORECASE)
    assert [m.span() for m in later.finditer(searched)] == [m.span() for m in now.finditer(searched)]
    assert later.sub("-", searched) == now.sub("-", searched)
    assert (later.pattern, later.flags, later.groupindex) == (now.pattern, now.flags, now.groupindex)


def test_bytes_are_searched_too() -> None:
    assert regex(rb"a(b)").fullmatch(b"ab") is not None


def test_it_can_be_copied_and_sent_to_another_process() -> None:
    later = regex("a(b)", re.IGNORECASE)
    for other in (copy.copy(later), copy.deepcopy(later), pickle.loads(pickle.dumps(later))):
        assert other.fullmatch("AB") is not None


def test_a_wrong_one_is_told_at_its_first_use() -> None:
    wrong = regex("(")
    with pytest.raises(re.error):
        wrong.search("")
