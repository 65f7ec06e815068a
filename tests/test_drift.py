"""Drift: which findings a difference between what is locked and what is there makes, and what they say."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.drift import compare, compare_files, compare_variables, distributions_in
from klock.findings import Code
from klock.layers.manifest import Entry, Kind, Manifest
from klock.observation import Observation
from tests.memory_workshop import file_entry

SITE = "usr/lib/python3/dist-packages"
A, B = file_entry("a", b"1"), file_entry("a", b"22")
FOLDER = Entry(path="d", kind=Kind.FOLDER, mode=0o755)
CACHES = ("root/.cache", "root/.cache/uv", "home/joe/.npm", "root/.local", "root/.local/state")
LINK = Entry(path="l", kind=Kind.SYMLINK, mode=0o777, target="a")


def distribution(name: str, version: str) -> list[Entry]:
    return [file_entry(f"{SITE}/{name}-{version}.dist-info/METADATA", b"m")]


CASES: dict[str, tuple[list[Entry], list[Entry], list[tuple[Code, str]]]] = {
    "nothing changed": ([A, FOLDER], [FOLDER, A], []),
    "content changed": ([A], [B], [(Code.MODIFIED, "/a differs: content")]),
    "mode changed": (
        [A],
        [dataclasses.replace(A, mode=0o600)],
        [(Code.MODIFIED, "/a differs: mode 0644 is now 0600")],
    ),
    "owner changed": (
        [A],
        [dataclasses.replace(A, uid=5)],
        [(Code.MODIFIED, "/a differs: owner 0:0 is now 5:0")],
    ),
    "capability changed": (
        [A],
        [dataclasses.replace(A, xattrs=(("security.capability", "01"),))],
        [(Code.MODIFIED, "/a differs: extended attributes")],
    ),
    "a link leads elsewhere": (
        [LINK],
        [dataclasses.replace(LINK, target="b")],
        [(Code.MODIFIED, "/l differs: target a is now b")],
    ),
    "a file became a folder": (
        [A],
        [dataclasses.replace(FOLDER, path="a")],
        [(Code.MODIFIED, "/a differs: file is now dir")],
    ),
    "a file is gone": ([A, FOLDER], [FOLDER], [(Code.MISSING, "/a is missing")]),
    "a file is new": ([], [A], [(Code.EXTRA, "/a is not in the lockfile")]),
    "folders for caches are new": ([], [dataclasses.replace(FOLDER, path=path) for path in CACHES], []),
    "a folder for caches is new and has something else in it": (
        [],
        [dataclasses.replace(FOLDER, path="root/.cache"), file_entry("root/.cache/x")],
        [(Code.EXTRA, "/root/.cache is not in the lockfile, with the 1 entry in it")],
    ),
    "a user's home is new": (
        [],
        [dataclasses.replace(FOLDER, path=path) for path in ("home/joe", "home/joe/.cache")],
        [(Code.EXTRA, "/home/joe is not in the lockfile, with the 1 entry in it")],
    ),
    "a whole folder is gone: one finding": (
        [FOLDER, file_entry("d/x"), file_entry("d/y")],
        [],
        [(Code.MISSING, "/d is missing, with the 2 entries in it")],
    ),
    "a whole folder is new: one finding": (
        [],
        [FOLDER, file_entry("d/x")],
        [(Code.EXTRA, "/d is not in the lockfile, with the 1 entry in it")],
    ),
    "a distribution has another version": (
        distribution("Num_Py", "1.0"),
        distribution("Num_Py", "2.0"),
        [
            (Code.DISTRIBUTION, "distribution num-py is 2.0, locked is 1.0"),
            (Code.MISSING, f"/{SITE}/Num_Py-1.0.dist-info/METADATA is missing"),
            (Code.EXTRA, f"/{SITE}/Num_Py-2.0.dist-info/METADATA is not in the lockfile"),
        ],
    ),
    "a distribution is new": (
        [],
        distribution("rogue", "1"),
        [
            (Code.DISTRIBUTION, "distribution rogue 1 is not in the lockfile"),
            (Code.EXTRA, f"/{SITE}/rogue-1.dist-info/METADATA is not in the lockfile"),
        ],
    ),
    "a distribution is gone": (
        distribution("numpy", "1"),
        [],
        [
            (Code.DISTRIBUTION, "distribution numpy 1 is missing"),
            (Code.MISSING, f"/{SITE}/numpy-1.dist-info/METADATA is missing"),
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_findings_when(case: str) -> None:
    expected, observed, findings = CASES[case]
    found = list(compare_files(Manifest(expected), [], Manifest(observed)))
    assert [(f.code, f.message) for f in found] == findings


def test_a_finding_names_the_last_step_that_made_the_path() -> None:
    layers = [Manifest([A]), Manifest([B]), Manifest([FOLDER])]
    (finding,) = compare_files(Manifest([B, FOLDER]), layers, Manifest([FOLDER]))
    assert finding.step == 2


def test_variables_that_differ_are_named() -> None:
    findings = list(compare_variables({"A": "1", "B": "2", "C": "3"}, {"A": "1", "B": "x", "D": "4"}))
    assert [f.message for f in findings] == [
        "variable B differs",
        "variable C is not set in the environment",
        "variable D is set in the environment and not in the lockfile",
    ]


def test_distributions_are_read_off_their_folders() -> None:
    manifest = Manifest([*distribution("ruamel.yaml", "0.18"), file_entry(f"{SITE}/x-1.egg-info/PKG-INFO")])
    assert distributions_in(manifest) == {(SITE, "ruamel-yaml"): {"0.18"}, (SITE, "x"): {"1"}}


paths = st.sampled_from(["a", "b", "d", "d/x", "d/y", "d/e", "d/e/z"])
trees = st.dictionaries(paths, st.binary(max_size=2)).map(
    lambda files: Manifest(file_entry(path, content) for path, content in files.items())
)


@given(trees)
def test_a_tree_does_not_drift_from_itself(tree: Manifest) -> None:
    assert list(compare_files(tree, [], tree)) == []


@given(trees, trees)
def test_two_trees_that_differ_have_findings_and_each_difference_is_covered(one: Manifest, other: Manifest) -> None:
    found = {f.path for f in compare_files(one, [], other)}
    assert bool(found) == (one != other)
    for path in {*one, *other}:
        if one.get(path) != other.get(path):
            parents = {"/" + path[:i] for i, char in enumerate(path) if char == "/"}
            assert f"/{path}" in found or found & parents


def test_what_a_step_leaves_out_is_no_drift() -> None:
    key, public = file_entry("etc/ssh/ssh_host_key"), file_entry("etc/ssh/ssh_host_key.pub")
    locked, found = Manifest([public, A]), Manifest([key, file_entry("etc/ssh/ssh_host_key.pub", b"other"), B])
    findings = compare(Observation(locked=locked, files=found), leave_out=["/etc/ssh/ssh_host_*"])
    assert [finding.message for finding in findings] == ["/a differs: content"]
