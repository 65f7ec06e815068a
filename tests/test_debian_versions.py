"""The order of Debian's versions is dpkg's."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klock.debian.versions import DebVersion

ORDERED = [
    ("1.0~rc1", "1.0"),
    ("1.0", "1.0-1"),
    ("1.0-1", "1.0-1+b1"),
    ("1.0-1~bpo12+1", "1.0-1"),
    ("1.2", "1.10"),
    ("9.9", "1:0.1"),
    ("2.36-9+deb12u9", "2.36-9+deb12u10"),
    ("1.0a", "1.0+"),
    ("1.0a", "1.0b"),
    ("1", "1a"),
    ("1~~", "1~"),
    ("1~", "1"),
]


@pytest.mark.parametrize(("older", "newer"), ORDERED)
def test_the_order_of_deb_version_7(older: str, newer: str) -> None:
    assert DebVersion(older) < DebVersion(newer)
    assert not DebVersion(newer) < DebVersion(older)


@pytest.mark.parametrize(("one", "other"), [("1.0", "0:1.0"), ("1.01", "1.1"), ("1.0-0", "1.0"), ("a", "a0")])
def test_versions_that_are_equal_and_not_written_alike(one: str, other: str) -> None:
    assert DebVersion(one) == DebVersion(other)
    assert hash(DebVersion(one)) == hash(DebVersion(other))


_VERSIONS = st.from_regex(r"(?:[0-9]:)?[0-9][0-9a-c.+~]{0,5}(?:-[0-9a-c.+~]{1,4})?", fullmatch=True)


_SCRIPT = "while read -r a b; do if dpkg --compare-versions $a lt $b; then echo yes; else echo no; fi; done"


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg is not here")
@settings(max_examples=1, deadline=None, suppress_health_check=list(HealthCheck))
@given(pairs=st.lists(st.tuples(_VERSIONS, _VERSIONS), min_size=60, max_size=60))
def test_the_order_is_that_of_dpkg(pairs: list[tuple[str, str]]) -> None:
    lines = "".join(f"{one} {other}\n" for one, other in pairs)
    done = subprocess.run(["sh", "-c", _SCRIPT], input=lines, capture_output=True, text=True, check=True)
    found = ["yes" if DebVersion(one) < DebVersion(other) else "no" for one, other in pairs]
    assert dict(zip(pairs, done.stdout.split(), strict=True)) == dict(zip(pairs, found, strict=True))
