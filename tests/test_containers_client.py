"""The engines of containers without an engine: without their client, and what the store notes of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from klock.errors import EngineError
from klock.extras import missing_extra_hint
from klock.places import place_with
from klock.places.containers import ContainerPlace
from klock.places.records import folder_of, names_in
from klock.store import Store
from tests.memory_workshop import MemoryWorkshop


@pytest.mark.parametrize("name", ["podman", "docker"])
def test_the_missing_package_is_named_with_the_way_to_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    store = Store(tmp_path)
    folder_of(store, name, "noted").mkdir(parents=True)
    place = ContainerPlace(name, MemoryWorkshop(), store)
    for use in (lambda: place.synced("noted"), place.remove_leftovers, lambda: place.remove("noted")):
        with pytest.raises(
            EngineError, match=f"the engine {name} needs a package that is not installed: docker"
        ) as error:
            use()
        assert error.value.hint == missing_extra_hint("containers")


def test_an_environment_s_folder_is_not_taken_for_a_note(tmp_path: Path) -> None:
    """Whatever a project's folder is called, which its environment's name begins with."""
    store = Store(tmp_path)
    for name in ("podman.x-0123456789ab", "x.podman-0123456789ab"):
        folder_of(store, "sandbox", name).mkdir(parents=True)
    folder_of(store, "podman", "podman.x-0123456789ab").mkdir()
    assert names_in(store, "podman") == ["podman.x-0123456789ab"]
    assert names_in(store, "sandbox") == ["podman.x-0123456789ab", "x.podman-0123456789ab"]
    assert place_with("x-0123456789ab", store) == "sandbox"
    assert names_in(store, "docker") == []
