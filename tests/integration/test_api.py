"""The verbs as a library, on the real sandbox: values come back, nothing is printed, the process stays as it was."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import klock
from klock.errors import KlockError, StaleLockError, StepFailed
from klock.progress import Quiet
from klock.replay.plan import ReplaceEnvironment, ReuseLayer, RunStep
from klock.store import Store
from klock.workshop.scratch import remove_trees
from tests.integration.unprivileged import require_program
from tests.oci_layout import write_layout

pytestmark = pytest.mark.integration

DOCS = Path(__file__).parents[2] / "docs/python.md"
KIMAGE = """\
import klock as kt

image = (
    kt.Image()
    .from_docker("oci:./layout")
    .set_env_vars({"GREETING": "hello"})
    .rsync("./src", "/app", contents=True)
    .run_bash("echo made > /made")
)
"""


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of one static program."""
    busybox = Path(require_program("busybox", package="busybox-static")).read_bytes()
    folder = tmp_path_factory.mktemp("layout")
    return write_layout(folder, files={f"bin/{name}": busybox for name in ("sh", "cat", "mkdir", "echo")})


@pytest.fixture
def folder(tmp_path: Path, layout: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with kimage.py, the current folder, and a store of its own."""
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "src/main.sh").write_text('echo "$GREETING"\n')
    (project / "layout").symlink_to(layout)
    (project / "kimage.py").write_text(KIMAGE)
    monkeypatch.chdir(project)
    yield project
    remove_trees([tmp_path / "klock-cache"])


class Told(Quiet):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.tasks: list[str] = []

    def begin(self, task: str, *, total: int | None = None, unit: str = "bytes") -> None:
        self.tasks.append(task)


def test_each_verb_gives_a_value_and_prints_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)
    locked = klock.lock()
    assert (locked.path, locked.written, locked.previous) == (folder / "kimage.lock", True, None)
    assert not klock.lock().written
    actions = klock.plan().actions
    assert [type(action) for action in actions] == [ReuseLayer, ReuseLayer, ReplaceEnvironment]
    synced = klock.sync()
    fingerprint = locked.lockfile.targets[0].fingerprint
    assert (synced.changed, synced.ran, synced.place, synced.fingerprint) == (True, 0, "sandbox", fingerprint)
    assert not klock.sync().changed
    assert klock.check(environment=True) == klock.Checked(lockfile=locked.lockfile, findings=())
    done = klock.run(["sh", "/app/main.sh"], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")
    alone = klock.run(["cat", "/proc/net/dev"], network="none", capture_output=True).stdout
    assert [line.split()[0] for line in alone.splitlines() if b":" in line] == [b"lo:"]
    with pytest.raises(KlockError, match="network is 'some'"):
        klock.run(["true"], network="some")
    assert capfd.readouterr() == ("", "")
    assert dict(os.environ) == before


class Remover(Quiet):
    """Would remove what nobody uses from the store, at every task that begins, and notes whether it would have to wait
    for somebody."""

    def __init__(self, store: Path) -> None:
        self._store = Store(store)
        self.waits: list[bool] = []

    def begin(self, task: str, *, total: int | None = None, unit: str = "bytes") -> None:
        self.waits.append(False)
        with contextlib.suppress(InterruptedError), self._store.alone(self._on_wait):
            pass

    def _on_wait(self) -> None:
        self.waits[-1] = True
        raise InterruptedError


def test_nothing_is_removed_from_the_store_while_a_verb_works(folder: Path) -> None:
    try:
        for verb, store in ((klock.lock, folder / "one"), (klock.sync, folder / "other")):
            remover = Remover(store)
            verb(progress=remover, store=store)
            assert len(remover.waits) > 1 and all(remover.waits), verb
            remover.begin("after it")
            assert remover.waits[-1] is False
    finally:
        remove_trees([folder / "one", folder / "other"])


def test_a_command_has_this_process_s_streams_unless_its_output_is_asked_for(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    project = klock.Project()
    project.lock()
    project.sync()
    done = project.run(["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert done.returncode == 7
    assert done.stdout is None
    assert done.stderr is None
    assert capfd.readouterr() == ("out\n", "err\n")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        project.run(["sh", "-c", "cat; echo err >&2; exit 7"], capture_output=True, check=True)
    assert (failed.value.returncode, failed.value.stdout, failed.value.stderr) == (7, b"", b"err\n")


def test_findings_are_data(folder: Path) -> None:
    project = klock.Project()
    project.lock()
    project.sync()
    (folder / "src/main.sh").write_text("changed\n")
    project.run(["sh", "-c", "echo more >> /made"], frozen=True)
    checked = project.check(environment=True)
    assert not checked.agrees
    found = [(finding.code.value, finding.path, finding.step, finding.location) for finding in checked.findings]
    assert found == [("stale-file", "src/main.sh", 2, "kimage.py:7"), ("drift-modified", "/made", 3, "kimage.py:8")]


def test_errors_are_values_too(folder: Path) -> None:
    klock.lock()
    (folder / "src/main.sh").write_text("changed\n")
    with pytest.raises(StaleLockError, match=r"kimage.lock is stale:\n  step 2 \(kimage.py:7\): src/main.sh changed"):
        klock.sync()
    assert klock.sync(frozen=True).changed
    with pytest.raises(klock.KlockError, match="there is no image file"):
        klock.sync("elsewhere.py")
    with pytest.raises(klock.KlockError, match=r"^--upgrade-package Num_Py: the lockfile has no such package$"):
        klock.lock(upgrade_packages=["Num_Py"])


def test_an_image_made_here_is_locked_beside_its_lockfile(folder: Path) -> None:
    image = klock.Image().from_docker("oci:./layout").run_bash("mkdir /x")
    locked = klock.lock(image, lockfile="kimage.other.lock")
    assert locked.path == folder / "kimage.other.lock"
    assert (
        klock.run(["sh", "-c", "echo /x*"], image, lockfile="kimage.other.lock", capture_output=True).stdout == b"/x\n"
    )
    assert not (folder / "kimage.lock").exists()


def test_a_failing_step_leaves_no_lockfile(folder: Path) -> None:
    image = klock.Image().from_docker("oci:./layout").run_bash("exit 3")
    with pytest.raises(StepFailed, match=r"step 1 \(.*test_api.py:\d+\) failed with status 3: run_bash exit 3"):
        klock.lock(image)
    assert not (folder / "kimage.lock").exists()


def test_progress_is_told_what_happens(folder: Path) -> None:
    told = Told()
    klock.lock(progress=told)
    assert [task for task in told.tasks if task.startswith("step")] == [
        "step 1/3 set_env_vars GREETING (kimage.py:6)",
        "step 2/3 rsync ./src -> /app (kimage.py:7)",
        "step 3/3 run_bash echo made > /made (kimage.py:8)",
    ]


def test_the_store_and_the_variables_can_be_others(folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "store": tmp_path / "store",
        "environ": {"PATH": os.environ["PATH"], "TOKEN": "s3cret-1"},
    }
    image = klock.Image().from_docker("oci:./layout").set_env_vars({"TOKEN": "s3cret-1"})
    try:
        klock.lock(image, **options)
        done = klock.run(["sh", "-c", 'echo "$TOKEN"'], image, capture_output=True, **options)
        assert done.stdout == b"s3cret-1\n"
        assert "s3cret-1" not in (folder / "kimage.lock").read_text()
        assert not (tmp_path / "klock-cache").exists()
    finally:
        remove_trees([tmp_path / "store"])


def test_it_works_beside_other_threads_and_an_event_loop_as_in_a_notebook(folder: Path) -> None:
    import asyncio

    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()

    async def cell() -> bytes:
        klock.lock()
        return klock.run(["sh", "/app/main.sh"], capture_output=True).stdout

    try:
        assert asyncio.run(cell()) == b"hello\n"
    finally:
        ended.set()
        thread.join()


def test_a_plan_says_what_a_changed_step_costs(folder: Path) -> None:
    klock.lock()
    klock.sync()
    (folder / "kimage.py").write_text(KIMAGE.replace("echo made", "echo again"))
    klock.lock()
    kinds = [type(action) for action in klock.plan(store="fresh").actions]
    assert RunStep in kinds


def test_the_fixture_in_the_docs_works_in_users_own_tests(folder: Path) -> None:
    page = DOCS.read_text("utf-8")
    for name in ("conftest.py", "test_program.py"):
        found = re.search(rf"`{name}`:\n\n```python\n(.*?)```", page, re.DOTALL)
        assert found is not None
        (folder / name).write_text(found[1])
    klock.lock()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
