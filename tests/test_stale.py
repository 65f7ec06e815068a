"""Stale: what `klock check` says when someone edits the image or a file it copies. Real builders, real files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from klock.errors import KlockError
from klock.findings import Code
from klock.image.builder import Image
from klock.lockfile.model import DebianLock, EnvLock, LayerLock, PipLock, StepLock, layer_of, with_layer
from klock.locking.draft import as_draft, draft_steps
from klock.locking.stale import compare_steps

BASE = DebianLock(
    suite="bookworm",
    packages=(),
    debs=(),
    tree="sha256:" + "a" * 64,
    environment=(("PATH", "/usr/bin"), ("HOME", "/root")),
)
LAYER = LayerLock(digest="sha256:" + "b" * 64, files=1, size=2)

Edit = Callable[[Path], Image]


def image_of(
    root: Path,
    *,
    value: str = "1",
    command: str = "make",
    requirement: str = "numpy",
    leave_out: tuple[str, ...] = (),
) -> Image:
    return (
        Image(image_id="python:3.12-slim")
        .set_env_vars({"A": value, "P": "$PATH"})
        .pip_install([requirement, f"-r {root}/requirements.txt"])
        .run_bash(command, leave_out=leave_out)
        .rsync(f"{root}/src", "/app")
        .run_bash("serve &")
    )


def locked(drafts: list[StepLock]) -> list[StepLock]:
    """What locking makes of drafts."""
    result: list[StepLock] = []
    for draft in drafts:
        step = draft
        if isinstance(step, PipLock):
            step = dataclasses.replace(step, packages=("numpy==1.0",))
        result.append(step if layer_of(step) is None else with_layer(step, LAYER))
    return result


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.py").write_text("print(1)")
    (tmp_path / "src" / "gone.py").write_text("")
    (tmp_path / "requirements.txt").write_text("pandas\n")
    return tmp_path


def drafts_of(image: Image, root: Path) -> list[StepLock]:
    return draft_steps(image.steps, root=root, base=BASE, environ={})


def write(name: str, text: str) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        (root / name).write_text(text)

    return edit


def remove(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def nothing(root: Path) -> None: ...


CASES: dict[str, tuple[Callable[[Path], None], Edit, list[tuple[Code, int | None, str]]]] = {
    "nothing was edited": (nothing, image_of, []),
    "a variable has another value": (
        nothing,
        lambda root: image_of(root, value="2"),
        [(Code.STALE_STEP, 1, "variable A changed")],
    ),
    "a requirement was edited": (
        nothing,
        lambda root: image_of(root, requirement="numpy>=2"),
        [
            (Code.STALE_STEP, 2, "requirement numpy>=2 is not in the lockfile"),
            (Code.STALE_STEP, 2, "requirement numpy is in the lockfile, not in the image"),
        ],
    ),
    "a requirements file was edited": (
        write("requirements.txt", "pandas>=2\n"),
        image_of,
        [(Code.STALE_FILE, 2, "requirements.txt changed")],
    ),
    "a command was edited": (
        nothing,
        lambda root: image_of(root, command="make all"),
        [(Code.STALE_STEP, 3, "run_bash changed")],
    ),
    "paths were left out": (
        nothing,
        lambda root: image_of(root, leave_out=("/etc/x",)),
        [(Code.STALE_STEP, 3, "leave_out changed")],
    ),
    "a copied file was edited": (
        write("src/main.py", "print(2)"),
        image_of,
        [(Code.STALE_FILE, 4, "{root}/src/main.py changed")],
    ),
    "a copied file was deleted (case 53)": (
        remove("src/gone.py"),
        image_of,
        [(Code.STALE_FILE, 4, "{root}/src/gone.py was removed")],
    ),
    "a file was added": (
        write("src/new.py", ""),
        image_of,
        [(Code.STALE_FILE, 4, "{root}/src/new.py is new")],
    ),
    "a step was appended": (
        nothing,
        lambda root: image_of(root).run_bash("echo"),
        [(Code.STALE_STEP, 6, "run_bash echo is not in the lockfile")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_check_says_when(case: str, root: Path) -> None:
    edit, build, findings = CASES[case]
    lock = locked(drafts_of(image_of(root), root))
    edit(root)
    image = build(root)
    locations = [str(step.location) for step in image.steps]
    found = list(compare_steps(drafts_of(image, root), lock, locations))
    assert [(f.code, f.step, f.message.replace(str(root), "{root}")) for f in found] == findings
    for finding in found:
        if finding.step is not None:
            assert finding.location == locations[finding.step - 1]
            assert Path(__file__).name in str(finding.location)


def test_a_removed_env_step_is_reported_case_32(root: Path) -> None:
    lock = locked(drafts_of(image_of(root).set_env_vars({"LAST": "1"}), root))
    (finding,) = compare_steps(drafts_of(image_of(root), root), lock, ["x"] * 5)
    assert finding.message == "set_env_vars LAST is in the lockfile, not in the image"


def test_an_inserted_step_is_one_finding(root: Path) -> None:
    lock = locked(drafts_of(Image(image_id="x").run_bash("a").run_bash("b").run_bash("c"), root))
    image = Image(image_id="x").run_bash("a").run_bash("new").run_bash("b").run_bash("c")
    (finding,) = compare_steps(drafts_of(image, root), lock, ["1", "2", "3", "4"])
    assert (finding.step, finding.message) == (2, "run_bash new is not in the lockfile")


def test_drafting_a_locked_step_gives_its_draft_back(root: Path) -> None:
    drafts = drafts_of(image_of(root), root)
    assert [as_draft(step) for step in locked(drafts)] == drafts


def test_a_same_size_edit_with_the_old_mtime_is_seen_case_52(root: Path) -> None:
    import os

    lock = locked(drafts_of(image_of(root), root))
    file = root / "src" / "main.py"
    status = file.stat()
    file.write_text("print(7)")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    (finding,) = compare_steps(drafts_of(image_of(root), root), lock, ["x"] * 5)
    assert finding.code is Code.STALE_FILE


def test_a_variable_made_of_a_credential_names_it_too(root: Path) -> None:
    environ = {"REGISTRY_USER": "joe-from-ops", "REGISTRY_PASS": "pa55word!"}
    image = Image(image_id="x").set_env_vars(
        {"A": "https://joe-from-ops:pa55word!@host/simple", "REGISTRY_PASS": "other", "B": "$A --verbose"}
    )
    with pytest.raises(KlockError, match="the value of REGISTRY_PASS has a credential"):
        draft_steps(image.steps, root=root, base=BASE, environ=environ)
    image = Image(image_id="x").set_env_vars({"A": "https://joe-from-ops:pa55word!@host/simple", "B": "$A --verbose"})
    (draft,) = draft_steps(image.steps, root=root, base=BASE, environ=environ)
    assert isinstance(draft, EnvLock)
    a, b = draft.variables
    assert a.value == "https://${REGISTRY_USER}:${REGISTRY_PASS}@host/simple"
    assert (b.written, b.value) == ("$A --verbose", a.value + " --verbose")
    assert a.secrets == b.secrets == ("REGISTRY_PASS", "REGISTRY_USER")
