"""What the store says of environments, for pruning: which bases and layers are in use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from klock.places.records import folder_of, parts_of_all
from klock.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    for place, base, layers in (("sandbox", "b1", ["l1", "l2"]), ("podman", "b2", ["l2", "l3"])):
        folder = folder_of(store, place, "app-0123456789ab")
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps({"base": base, "layers": layers}))
    return store


def test_environments_of_all_places_have_parts(store: Store) -> None:
    assert parts_of_all(store) == {"b1", "b2", "l1", "l2", "l3"}


@pytest.mark.parametrize("text", [None, "", "[]", "{}"], ids=["half made", "cut off", "a list", "without a base"])
def test_an_environment_that_is_none_has_no_parts(text: str | None, store: Store) -> None:
    record = folder_of(store, "podman", "app-0123456789ab") / "record.json"
    record.unlink()
    if text is not None:
        record.write_text(text)
    assert parts_of_all(store) == {"b1", "l1", "l2"}


def test_parts_that_cannot_be_read_are_not_taken_for_unused(store: Store) -> None:
    record = folder_of(store, "podman", "app-0123456789ab") / "record.json"
    record.unlink()
    record.mkdir()  # nobody can read that, root neither
    with pytest.raises(IsADirectoryError):
        parts_of_all(store)
