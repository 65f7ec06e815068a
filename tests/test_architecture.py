"""docs/architecture.md shows the package as it is: each folder has a row, and what to read first is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/architecture.md").read_text("utf-8")


def test_every_folder_of_the_package_has_a_row() -> None:
    rows = set(re.findall(r"^\| `(\w+)/", PAGE, re.MULTILINE))
    assert {folder.parent.name for folder in (ROOT / "klock").glob("*/__init__.py")} <= rows


def test_what_to_read_first_is_there() -> None:
    named = re.findall(r"`(klock/[\w/]+\.py)`", PAGE)
    assert named
    assert [path for path in named if not (ROOT / path).is_file()] == []
