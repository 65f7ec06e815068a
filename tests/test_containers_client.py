"""The engines of containers without an engine: without their client, and what the store notes of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from klock.errors import EngineError
from klock.extras import missing_extra_hint
from klock.places import engine_with, note_of
from klock.places.containers import ContainerEngine
from klock.store import Store


@pytest.mark.parametrize("name", ["podman", "docker"])
def test_the_missing_package_is_named_with_the_way_to_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    store = Store(tmp_path)
    store.environment_path(f"{name}.noted").mkdir(parents=True)
    engine = ContainerEngine(name, store)
    for use in (lambda: engine.environment("any").record, engine.remove_leftovers, engine.remove_environments):
        with pytest.raises(
            EngineError, match=f"the engine {name} needs a package that is not installed: docker"
        ) as error:
            use()
        assert error.value.hint == missing_extra_hint("containers")


def test_an_environment_s_folder_is_not_taken_for_a_note(tmp_path: Path) -> None:
    """Whatever a project's folder is called, which its environment's name begins with."""
    store = Store(tmp_path)
    for name in ("podman.x-0123456789ab", "x.podman-0123456789ab", note_of("podman", "podman.x-0123456789ab")):
        (tmp_path / "environments" / name).mkdir(parents=True)
    assert ContainerEngine("podman", store).notes == ["podman.x-0123456789ab.podman"]
    assert engine_with("x-0123456789ab", store) == "sandbox"
    assert not ContainerEngine("docker", store).is_used
