"""`klock diff`: what changed between two lockfiles, as a person would say it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from klock.inventory.changes import compare
from klock.inventory.words import as_markdown, as_text, summary
from klock.lockfile.model import (
    AptLock,
    EnvLock,
    FileEntry,
    FilesLock,
    LayerLock,
    LockedVariable,
    Lockfile,
    OciLock,
    PipLock,
    ServiceLock,
    SettingsLock,
    ShellLock,
    WheelArtifact,
)
from klock.targets import Target
from tests.strategies import lockfiles
from tests.test_lock_moved import JQ
from tests.test_lockfile import NUMPY, SMALL, A, B, C

(CPU,) = SMALL.targets
VARIABLES, PIP, SHELL = CPU.steps
assert isinstance(CPU.base, OciLock)
assert isinstance(VARIABLES, EnvLock)
assert isinstance(PIP, PipLock)
assert isinstance(SHELL, ShellLock)
WHEEL = NUMPY.artifact
assert isinstance(WHEEL, WheelArtifact)
BOTH = replace(PIP, requirements=("numpy>=1.20", "pandas"), packages=("numpy==2.4.6", "pandas==3.0"))
NEWER_PIP = replace(PIP, packages=("numpy==2.5.0",))
PANDAS = replace(NUMPY, name="pandas", version="3.0")
NEWER = replace(NUMPY, version="2.5.0")
APT = AptLock(packages=("jq",), debs=(JQ,), layer=LayerLock(digest=A, files=1, size=1))
MAIN = FileEntry(path="main.py", mode=0o644, size=10, digest=A)
FILES = FilesLock(
    source="./app", destination="/srv/app", entries=(MAIN,), tree=B, layer=LayerLock(digest=C, files=1, size=10)
)
ANSWER = SHELL.requests[0]


def with_steps(*steps: Any, **changes: Any) -> Lockfile:
    return replace(SMALL, targets=(replace(CPU, steps=steps, **changes),))


BEFORE = with_steps(VARIABLES, PIP, SHELL, FILES)
CASES: dict[str, tuple[Lockfile, list[str]]] = {
    "nothing": (BEFORE, []),
    "a package moved": (
        with_steps(VARIABLES, NEWER_PIP, SHELL, FILES, packages=(NEWER,)),
        ["Python packages:", "  update numpy 2.4.6 -> 2.5.0"],
    ),
    "a package has another file": (
        with_steps(
            *(VARIABLES, PIP, SHELL, FILES),
            packages=(replace(NUMPY, artifact=replace(WHEEL, sha256="0" * 64)),),
        ),
        ["Python packages:", "  update numpy another file of this version"],
    ),
    "a requirement and its package came": (
        with_steps(
            *(VARIABLES, BOTH),
            *(SHELL, FILES),
            packages=(NUMPY, PANDAS),
        ),
        [
            *("Python packages:", "  add pandas 3.0"),
            *("Steps:", "  update pip_install numpy>=1.20 -> pip_install numpy>=1.20, pandas"),
        ],
    ),
    "a step of .debs came": (
        with_steps(VARIABLES, PIP, SHELL, FILES, APT),
        ["Debian packages:", "  add jq 1.6", "Steps:", "  add apt_install jq"],
    ),
    "what a shell step installs moved": (
        with_steps(VARIABLES, PIP, replace(SHELL, installed=("vim 2:9.1",)), FILES),
        ["Debian packages:", "  update vim 2:9.0.1378-2 -> 2:9.1"],
    ),
    "a file changed, and so did its step's layer": (
        with_steps(
            *(VARIABLES, PIP, SHELL),
            replace(
                FILES,
                entries=(replace(MAIN, digest=B, size=11),),
                tree=C,
                layer=LayerLock(digest=A, files=1, size=11),
            ),
        ),
        ["Files:", "  update /srv/app/main.py 10 B, mode 0644 -> 11 B, mode 0644"],
    ),
    "a file of the same size": (
        with_steps(VARIABLES, PIP, SHELL, replace(FILES, entries=(replace(MAIN, digest=B),))),
        ["Files:", "  update /srv/app/main.py content"],
    ),
    "a folder that goes elsewhere": (
        with_steps(VARIABLES, PIP, SHELL, replace(FILES, destination="/app")),
        ["Files:", "  add /app/main.py 10 B, mode 0644", "  remove /srv/app/main.py 10 B, mode 0644"],
    ),
    "a variable": (
        with_steps(EnvLock(variables=(LockedVariable(name="P", written="x", value="x"),)), PIP, SHELL, FILES),
        ["Variables:", "  update P /usr/bin -> x"],
    ),
    "an answer of the network": (
        with_steps(
            *(VARIABLES, PIP),
            replace(SHELL, requests=(replace(ANSWER, sha256="0" * 64), *SHELL.requests[1:])),
            FILES,
        ),
        ["Answers of the network:", "  update GET http://d/vim_9.0.deb another answer"],
    ),
    "a command": (
        with_steps(VARIABLES, PIP, replace(SHELL, command="make"), FILES),
        ["Steps:", "  update run_bash a... -> run_bash make"],
    ),
    "a command below its first line": (
        with_steps(VARIABLES, PIP, replace(SHELL, command="a\nc"), FILES),
        ["Steps:", "  update run_bash a... changed"],
    ),
    "nothing but a layer": (
        with_steps(VARIABLES, PIP, replace(SHELL, layer=LayerLock(digest=B, files=2, size=3)), FILES),
        ["Layers:", "  update run_bash a... 0 entries -> 2 entries"],
    ),
    "a service and a user": (
        with_steps(VARIABLES, PIP, SHELL, FILES, ServiceLock(command="ray start &"), SettingsLock(user="app")),
        ["Settings:", "  add user app", "Services:", "  add run_bash ray start &"],
    ),
    "another base": (
        with_steps(
            *(VARIABLES, PIP, SHELL, FILES),
            base=replace(CPU.base, reference="python:3.13-slim", index_digest=C),
        ),
        ["Base:", "  update python:3.12-slim sha256:aaaaaaaaaaaa -> sha256:cccccccccccc"],
    ),
    "another target": (
        replace(BEFORE, targets=(*BEFORE.targets, replace(CPU, target=Target(accelerator="cuda12.4")))),
        ["add target linux/amd64/cuda12.4"],
    ),
    "the whole image": (
        replace(BEFORE, image=replace(BEFORE.image, exclude_newer="2026-01-01T00:00:00Z")),
        ["Settings:", "  add exclude-newer 2026-01-01T00:00:00Z"],
    ),
}


@pytest.mark.parametrize(("after", "lines"), CASES.values(), ids=CASES)
def test_changes_are_told_as_a_person_would(after: Lockfile, lines: list[str]) -> None:
    assert list(as_text(compare(BEFORE, after))) == lines


def test_what_is_so_for_one_target_says_for_which() -> None:
    (target,) = BEFORE.targets
    gpu = replace(target, target=Target(accelerator="cuda12.4"))
    both = replace(BEFORE, targets=(target, gpu))
    newer = replace(gpu, packages=(NEWER,), steps=(VARIABLES, NEWER_PIP, SHELL, FILES))
    changed = compare(both, replace(both, targets=(target, newer)))
    assert list(as_text(changed))[1:] == ["  update numpy 2.4.6 -> 2.5.0 (linux/amd64/cuda12.4 only)"]


def test_markdown_is_a_table_whose_cells_hold_what_others_wrote() -> None:
    odd = EnvLock(variables=(LockedVariable(name="P", written="a|b`c`\n", value="a|b`c`\n"),))
    lines = list(as_markdown(compare(BEFORE, with_steps(odd, PIP, SHELL, FILES, APT))))
    assert lines == [
        "**1 Debian package added, 1 variable changed, 1 step added**",
        *("", "### Debian packages", "", "| | before | after |", "|---|---|---|", "| `jq` |  | `1.6` |"),
        *("", "### Variables", "", "| | before | after |", "|---|---|---|"),
        r"| `P` | `/usr/bin` | `a\|b'c'\n` |",
        *("", "### Steps", "", "| | before | after |", "|---|---|---|", "| `apt_install jq` |  | `added` |"),
    ]
    assert list(as_markdown(compare(BEFORE, BEFORE))) == ["No changes."]


def test_json_has_the_same_without_empty_fields() -> None:
    assert compare(BEFORE, with_steps(VARIABLES, PIP, SHELL, FILES, APT)).to_json() == {
        "changes": [
            {"sort": "deb", "change": "add", "name": "jq", "after": "1.6"},
            {"sort": "step", "change": "add", "name": "apt_install jq", "after": "apt_install jq"},
        ],
        "targets-added": [],
        "targets-removed": [],
        "drift": [],
    }


def test_a_summary_counts() -> None:
    assert summary(compare(BEFORE, CASES["a step of .debs came"][0])) == "1 Debian package added, 1 step added"
    assert summary(compare(BEFORE, BEFORE)) == "no changes"


@settings(max_examples=10, deadline=None)
@given(lockfiles(), lockfiles())
def test_what_is_added_one_way_is_removed_the_other_way(one: Lockfile, other: Lockfile) -> None:
    assert not compare(one, one)
    there, back = compare(one, other), compare(other, one)
    assert (there.added, there.removed) == (back.removed, back.added)
    turned: Callable[[str], str] = {"add": "remove", "remove": "add", "update": "update"}.__getitem__
    assert sorted(c.verb for c in there.changes) == sorted(turned(c.verb) for c in back.changes)
