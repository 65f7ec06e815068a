"""Docker's wildcards, which are those of Go's filepath.Match: its own table of cases, one component of a path each."""

from __future__ import annotations

import re

import pytest

from klock.files.globs import go_regex, has_wildcard

MATCHES = [
    ("abc", "abc", True),
    ("*", "abc", True),
    ("*c", "abc", True),
    ("a*", "a", True),
    ("a*", "ab/c", False),
    ("a*b*c*d*e*", "axbxcxdxe", True),
    ("a*b?c*x", "abxbbxdbxebxczzx", True),
    ("a*b?c*x", "abxbbxdbxebxczzy", False),
    ("ab[c]", "abc", True),
    ("ab[b-d]", "abc", True),
    ("ab[e-g]", "abc", False),
    ("ab[^c]", "abc", False),
    ("ab[^b-d]", "abc", False),
    ("ab[^e-g]", "abc", True),
    ("ab[!c]", "abc", True),
    ("ab[!b]", "abc", False),
    ("a\\*b", "a*b", True),
    ("a\\*b", "ab", False),
    ("a?b", "a☺b", True),
    ("a[^a]b", "a☺b", True),
    ("a???b", "a☺b", False),
    ("[a-ζ]*", "α", True),
    ("*[a-ζ]", "A", False),
    ("a?b", "a/b", False),
    ("a*b", "a/b", False),
    ("[\\]a]", "]", True),
    ("[\\-]", "-", True),
    ("[x\\-]", "x", True),
    ("[x\\-]", "z", False),
    ("[\\-x]", "a", False),
    ("[b-a]", "a", False),
    ("[[]0", "[0", True),
]


@pytest.mark.parametrize(("pattern", "name", "matches"), MATCHES)
def test_matching(pattern: str, name: str, matches: bool) -> None:
    assert (re.fullmatch(go_regex(pattern), name, re.DOTALL) is not None) is matches


@pytest.mark.parametrize("pattern", ["[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "a\\"])
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"a class|backslash"):
        go_regex(pattern)


def test_a_backslash_before_a_wildcard() -> None:
    found = {path: has_wildcard(path) for path in ("a", "a*", "a\\*", "a\\\\*", "[", "a/?")}
    assert found == {"a": False, "a*": True, "a\\*": False, "a\\\\*": True, "[": True, "a/?": True}
