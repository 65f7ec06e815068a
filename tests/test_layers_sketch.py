"""A sketch says where two manifests differ, from about a kilobyte, or says nothing."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.layers.differences import explain_by_sketch
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.sketch import Reconciled, reconcile, sketch_of


def file(path: str, content: str = "0") -> Entry:
    return Entry(path=path, kind=Kind.FILE, mode=0o644, size=1, digest=f"sha256:{content * 64}")


TREE = Manifest(file(f"usr/lib/{n}.py") for n in range(5000))


def changed(tree: Manifest, *, other: int = 0, more: int = 0, fewer: int = 0) -> Manifest:
    entries = list(tree.values())
    entries[:other] = [replace(entry, mode=0o755) for entry in entries[:other]]
    entries += [file(f"new/{n}") for n in range(more)]
    return Manifest(entries[: len(entries) - more - fewer] + entries[len(entries) - more :])


@pytest.mark.parametrize(
    ("other", "more", "fewer"), [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (6, 3, 2), (12, 4, 4), (0, 20, 10)]
)
def test_the_paths_that_differ_are_named(other: int, more: int, fewer: int) -> None:
    found = reconcile(sketch_of(TREE), changed(TREE, other=other, more=more, fewer=fewer))
    assert found == Reconciled(
        changed=tuple(list(TREE)[:other]), only_here=tuple(sorted(f"new/{n}" for n in range(more))), missing=fewer
    )


def test_too_many_differences_are_not_guessed_at() -> None:
    assert reconcile(sketch_of(TREE), changed(TREE, other=1000)) is None


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_nothing_wrong_is_said_of_any_two_manifests(one: set[int], other: set[int]) -> None:
    locked = Manifest(file(f"{n}", str(n % 3)) for n in one)
    made = Manifest(file(f"{n}", str(n % 2)) for n in other)
    found = reconcile(sketch_of(locked), made)
    if found is not None:
        assert set(found.only_here) == made.keys() - locked.keys()
        assert set(found.changed) == {path for path in made.keys() & locked.keys() if made[path] != locked[path]}
        assert found.missing == len(locked.keys() - made.keys())


def test_a_sketch_is_short() -> None:
    assert len(sketch_of(TREE)) == 1152
    assert len(sketch_of(Manifest([file("a")]))) == 192


@pytest.mark.parametrize(
    "text", ["", "x", "AAAA", "é", "A" * 190, "A" * 1_000_000, base64.b64encode(b"x" * 864).decode()]
)
def test_what_is_no_sketch_says_nothing(text: str) -> None:
    assert reconcile(text, TREE) is None


def test_a_tree_that_comes_out_otherwise_names_its_paths() -> None:
    kept = [entry for path, entry in TREE.items() if path != "usr/lib/7.py"]
    made = Manifest([*kept, file("new"), file("usr/lib/9.py", "1")])
    text = explain_by_sketch(sketch_of(TREE), made, "tree")
    assert text is not None
    assert "\n  /new is not in the locked tree\n" in text
    assert "\n  /usr/lib/9.py is not as it was locked" in text
    assert "\n  1 path of the locked tree" in text
