"""What every test starts from: a home, a cache and a configuration of its own, so that this machine's do not show."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("klock", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("klock")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that forgets to name a store must not write into the user's."""
    monkeypatch.setenv("KLOCK_CACHE_DIR", str(tmp_path / "klock-cache"))
