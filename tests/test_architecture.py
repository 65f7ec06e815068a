"""docs/architecture.md shows the package as it is: each folder has a row, and what to read first is there."""

from __future__ import annotations

import graphlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/architecture.md").read_text("utf-8")
_IMPORT = re.compile(r"^ *from (klock[\w.]*) import (?:\(([^)]*)\)|(.+))", re.MULTILINE)


def test_every_folder_of_the_package_has_a_row() -> None:
    rows = set(re.findall(r"^\| `(\w+)/", PAGE, re.MULTILINE))
    assert {folder.parent.name for folder in (ROOT / "klock").glob("*/__init__.py")} <= rows


def test_imports_run_one_way() -> None:
    """Those for types alone, too: whoever reads a room need not know the rooms above it."""
    graph = _imports()
    rows = re.findall(r"^\| `(\w+)(?:/|/<kind>/|\.py)` \|", PAGE, re.MULTILINE)
    assert len(rows) > 30
    room_of = {path: path.removeprefix("klock/").partition("/")[0].removesuffix(".py") for path in graph}
    rooms: dict[str, set[str]] = {room: set() for room in room_of.values()}
    for path, imported in graph.items():
        rooms[room_of[path]] |= {room_of[other] for other in imported} - {room_of[path]}
    graphlib.TopologicalSorter(rooms).prepare()  # raises CycleError
    assert [(a, b) for i, b in enumerate(rows) for a in rows[i + 1 :] if b in rooms[a]] == []


def _imports() -> dict[str, set[str]]:
    """The files of the package, and for each the files that it imports, wherever in it."""
    paths = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in (ROOT / "klock").rglob("*.py")}
    modules = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in paths}
    graph: dict[str, set[str]] = {}
    for path, text in paths.items():
        graph[path] = set()
        for module, in_parentheses, plain in _IMPORT.findall(text):
            names = [name.split()[0] for name in (in_parentheses or plain).split(",") if name.strip()]
            found = {modules.get(f"{module}.{name}") or modules[module] for name in names}
            graph[path] |= found - {path}
    return graph


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
