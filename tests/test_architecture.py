"""docs/architecture.md shows the package as it is: each folder has a row, and what to read first is there."""

from __future__ import annotations

import re
import subprocess
import sys
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


def test_to_find_a_lockfile_stale_loads_nothing_that_makes_one() -> None:
    """The start is part of every command's time."""
    script = "import sys, klock.commands.check, klock.api, klock.locking.staleness; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    makers = {"bases", "debian", "export", "packages", "recorder", "replay", "vault", "workshop"}
    assert [name for name in done.stdout.split() if name.startswith("klock.") and name.split(".")[1] in makers] == []


def test_only_run_and_its_services_have_the_hosts_network() -> None:
    """The others of these files know what it is, and ask nobody to have it."""
    ask = {"running.py", "steps/service/__init__.py"}
    know = {"workshop/commands.py", "places/containers/running.py"}
    named = {path for path in (ROOT / "klock").rglob("*.py") if "Network.HOST" in path.read_text("utf-8")}
    assert {str(path.relative_to(ROOT / "klock")) for path in named} == ask | know
