"""Lockfiles that klock wrote once are read and written byte for byte, and mean the same work as then.

A key that changes makes every machine do its steps again, and a fingerprint that changes is another environment: so
neither changes without a new `lock-version` or `normalisation`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from klock.lockfile.model import Lockfile
from klock.lockfile.reading import from_text
from klock.lockfile.writing import to_text
from klock.steps.cache_keys import cache_keys

FOLDER: Final = Path(__file__).parent.parent / "fixtures/lockfile"
KEYS: Final[dict[str, dict[str, dict[str, Any]]]] = json.loads((FOLDER / "keys.json").read_bytes())


@pytest.fixture(params=sorted(KEYS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lockfile(name: str) -> Lockfile:
    return from_text((FOLDER / name).read_text("utf-8"))


def test_every_golden_file_is_tested() -> None:
    assert sorted(KEYS) == sorted(path.name for path in FOLDER.glob("*.lock"))


def test_it_is_written_as_it_was_read(name: str, lockfile: Lockfile) -> None:
    assert to_text(lockfile) == (FOLDER / name).read_text("utf-8")


def test_it_means_the_same_work(name: str, lockfile: Lockfile) -> None:
    image, rules = lockfile.image, lockfile.normalisation
    found = {
        str(target.target): {
            "fingerprint": target.fingerprint,
            "keys": cache_keys(target, image=image, normalisation=rules),
            "before_they_ran": cache_keys(target, image=image, normalisation=rules, drafted=True),
        }
        for target in lockfile.targets
    }
    assert found == KEYS[name]
