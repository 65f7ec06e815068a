"""The engines of containers where klock was installed without their client."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from klock.engines.containers import ContainerEngine
from klock.errors import EngineError
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
        assert "klock[containers]" in (error.value.hint or "")
