"""The folders that are made for a command to work in, whatever symlinks lead there."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from klock.layers.manifest import Entry, Kind, Manifest
from klock.workshop.working_dir import folders_to, without_made_folders


def tree(paths: Mapping[str, str | None]) -> Manifest:
    """Folders, and symlinks with their targets."""
    return Manifest(
        Entry(path=path, kind=Kind.FOLDER, mode=0o755)
        if target is None
        else Entry(path=path, kind=Kind.SYMLINK, mode=0o777, target=target)
        for path, target in paths.items()
    )


@pytest.mark.parametrize(
    ("path", "links", "expected"),
    [
        ("/", {}, []),
        ("/a/b", {}, ["a", "a/b"]),
        ("/a//./b/", {}, ["a", "a/b"]),
        ("/a/b", {"a": "c/d"}, ["c", "c/d", "c/d/b"]),
        ("/a/b/c", {"a/b": "/x"}, ["a", "x", "x/c"]),
        ("/a/b/c", {"a/b": "../../../x"}, ["a", "x", "x/c"]),
    ],
)
def test_the_way_to_a_folder(path: str, links: dict[str, str], expected: list[str]) -> None:
    assert list(folders_to(path, tree(links))) == expected


def test_links_that_lead_in_a_circle_come_to_an_end() -> None:
    assert len(list(folders_to("/a", tree({"a": "b", "b": "a"})))) == 1


def test_only_folders_that_were_not_locked_count_as_made() -> None:
    locked = tree({"a": None, "l": "a"})
    observed = tree({"a": None, "l": "a", "a/w": None, "a/w/x": None, "other": None})
    assert list(without_made_folders(observed, locked, folders_to("/l/w", locked))) == ["a", "a/w/x", "l", "other"]
    assert without_made_folders(tree({"a/w": "x"}), locked, folders_to("/a/w", locked)) == tree({"a/w": "x"})
