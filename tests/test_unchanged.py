"""The quickest answer: given while everything that the last one rested on is as it was, and never otherwise."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from klock.image.builder import Image
from klock.layers import NORMALISATION
from klock.lockfile.model import FilesLock, Lockfile, StageLock, TargetLock
from klock.locking.draft import draft_image, draft_steps
from klock.project import load_image, load_settings
from klock.store import Store
from klock.store_folder import store_folder
from klock.targets import Target
from klock.unchanged.note import answer, file_of
from klock.unchanged.remembering import Looked, looked
from klock.unchanged.watching import Seen, seen, watch
from tests.test_stale import BASE, locked

ARGUMENTS = ["sync"]
IMAGE = """
import klock as kt
image = (
    kt.Image(image_id="python:3.12-slim")
    .pip_install(["numpy", "-r requirements/all.txt"])
    .rsync("./src", "/app", filter_options="--exclude-from=excluded")
    .rsync("link", "/link", contents=True)
    .rsync("one.txt", "/one.txt")
)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a file of each kind, in a folder below another."""
    root = tmp_path / "above" / "project"
    files = {
        "kimage.py": IMAGE,
        "requirements/all.txt": "-c constraints.txt\npandas\n",
        "requirements/constraints.txt": "pandas<3\n",
        "excluded": "*.log\n",
        "src/main.py": "print(1)",
        "src/a/b.py": "",
        "src/a/run.log": "left out",
        "src/.gitignore": "*.tmp\n",
        "linked/x.txt": "x",
        "other/x.txt": "x",
        "one.txt": "1",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "link").symlink_to("linked")
    (root / "src/symlink").symlink_to("main.py")
    (root / "kimage.lock").write_text("as locked")
    (tmp_path / "environment").write_text("as synced")
    monkeypatch.setenv("KLOCK_CACHE_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(root)
    return root


@pytest.fixture(autouse=True)
def nobody_watches() -> Iterator[None]:
    yield
    seen()


def look(project: Path, *, after: float = 10, arguments: list[str] = ARGUMENTS) -> Looked | None:
    """What a command does that finds nothing to do, `after` so many seconds."""
    watch(arguments)
    loaded = load_image()
    load_settings(loaded.root)
    (project / "kimage.lock").read_text()
    drafts = draft_steps(loaded.image.steps, root=loaded.root, base=BASE, environ=os.environ)
    watched = seen()
    assert watched is not None
    watched.started += int(after * 1e9)
    found = looked(watched, loaded=loaded, lock=lockfile_of(loaded.image, drafts), store=Store())
    if found is not None:
        found.remember("nothing to do", environment=[project.parents[1] / "environment"])
    return found


def lockfile_of(image: Image, drafts: list, *, target: str = "linux/amd64") -> Lockfile:  # type: ignore[type-arg]
    target_lock = TargetLock(
        target=Target.parse(target), base=BASE, interpreter=None, steps=tuple(locked(drafts)), packages=()
    )
    return Lockfile(image=draft_image(image, {}), normalisation=NORMALISATION, targets=(target_lock,))


def test_the_answer_is_known_as_long_as_nothing_changes(project: Path) -> None:
    assert answer(ARGUMENTS) is None
    look(project)
    assert answer(ARGUMENTS) == "nothing to do"
    assert answer(ARGUMENTS) == "nothing to do"


def test_an_answer_may_have_several_lines(project: Path) -> None:
    found = look(project)
    assert found is not None
    found.remember("amd64: unchanged\narm64: unchanged")
    assert answer(ARGUMENTS) == "amd64: unchanged\narm64: unchanged"


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda project: _written(project / name, text)


def _written(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _unnoticeably(project: Path) -> None:
    """Another content of the same size, and the time put back."""
    path = project / "src/main.py"
    before = path.stat()
    path.write_text("print(2)")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace_by_a_copy(project: Path) -> None:
    path = project / "one.txt"
    before = path.stat()
    (project.parent / "copy").write_text("2")
    os.utime(project.parent / "copy", ns=(before.st_atime_ns, before.st_mtime_ns))
    (project.parent / "copy").replace(path)


def _point_elsewhere(project: Path) -> None:
    (project / "link").unlink()
    (project / "link").symlink_to("other")


def _set(name: str, value: str) -> Callable[[Path], None]:
    return lambda _: os.environ.update({name: value})


CHANGES: dict[str, Callable[[Path], object]] = {
    "the image file": write("kimage.py", IMAGE.replace("numpy", "scipy")),
    "the lockfile": write("kimage.lock", "merged!!!"),
    "a requirements file": write("requirements/all.txt", "-c constraints.txt\npolars\n"),
    "a constraints file": write("requirements/constraints.txt", "pandas<2\n"),
    "a filter file": write("excluded", "*.txt\n"),
    "a file, its time put back": _unnoticeably,
    "a file, by a copy of the same time": _replace_by_a_copy,
    "a file that is executable now": lambda project: (project / "src/main.py").chmod(0o755),
    "a new file": write("src/new.py", ""),
    "a new file in a folder of a folder": write("src/a/new.py", ""),
    "a file that is gone": lambda project: (project / "src/a/b.py").unlink(),
    "a file behind a link": write("linked/x.txt", "y"),
    "a link that leads elsewhere": _point_elsewhere,
    "a link inside a source": lambda project: (project / "src/symlink").unlink(),
    "an ignore file": write("src/.gitignore", "*.py\n"),
    "a new ignore file in a source": write("src/a/.klockignore", "b.py\n"),
    "a new ignore file above the sources": write(".ktignore", "main.py\n"),
    "a repository that begins above": lambda project: (project.parent / ".git").mkdir(),
    "settings that come to be": write("pyproject.toml", '[tool.klock]\nengine = "docker"\n'),
    "settings that come to be above": write("../pyproject.toml", '[tool.klock]\nengine = "docker"\n'),
    "the environment": write("../../environment", "as changed"),
    "the environment, gone": lambda project: (project.parents[1] / "environment").unlink(),
    "a variable": _set("KLOCK_ENGINE", "docker"),
    "any variable, as its value may be a credential": _set("TOKEN", "numpy"),
    "the folder": lambda project: os.chdir(project / "src"),
    "the store": _set("KLOCK_CACHE_DIR", "/nowhere"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_noticed(change: Callable[[Path], object], project: Path) -> None:
    look(project)
    before = dict(os.environ)
    try:
        change(project)
        assert answer(ARGUMENTS) is None
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_a_module_that_takes_another_one_s_name_is_noticed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "kimage.py").write_text("import tomllib\n" + IMAGE)
    monkeypatch.delitem(sys.modules, "tomllib")
    look(project)
    assert answer(ARGUMENTS) == "nothing to do"
    (project / "tomllib.py").write_text("")
    assert answer(ARGUMENTS) is None


def test_another_command_line_has_another_answer(project: Path) -> None:
    look(project)
    assert answer(["sync", "--offline"]) is None
    assert answer(["check"]) is None


@pytest.mark.parametrize("name", ["kimage.py", "kimage.lock", "requirements/all.txt", "requirements/constraints.txt"])
def test_a_checkout_that_writes_the_same_again_changes_nothing(name: str, project: Path) -> None:
    look(project)
    (project / "new").write_bytes((project / name).read_bytes())
    (project / "new").replace(project / name)
    assert answer(ARGUMENTS) == "nothing to do"
    (project / name).write_text((project / name).read_text() + "\n")
    assert answer(ARGUMENTS) is None


@pytest.mark.parametrize("name", ["kimage.py", "kimage.lock"])
def test_what_a_file_became_instead_is_not_read(name: str, project: Path) -> None:
    look(project)
    (project / name).unlink()
    os.mkfifo(project / name)
    assert answer(ARGUMENTS) is None


def test_what_is_beside_it_may_change(project: Path) -> None:
    """Files that are left out, and contents of folders that nobody looked into."""
    (project / "results").mkdir()
    look(project)
    (project / "results/1.txt").write_text("1")
    (project / "src/a/run.log").write_text("another line")
    assert answer(ARGUMENTS) == "nothing to do"


@pytest.mark.parametrize(
    ("more", "is_known"),
    [
        ("", True),
        ("import os\nHERE = os.environ.get('HERE')\n", False),
        ("import os\nHERE = os.getenv('HERE')\n", False),
        ("LEVEL = '$SHLVL'\n", False),
    ],
    ids=["a file that asks for no variable", "one that may ask for any", "by getenv", "one that names it"],
)
def test_another_terminal_has_the_same_answer(
    more: str, is_known: bool, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "kimage.py").write_text(more + IMAGE)
    look(project)
    assert answer(ARGUMENTS) == "nothing to do"
    monkeypatch.setenv("SHLVL", "77")
    monkeypatch.setenv("WINDOWID", "77")
    assert answer(ARGUMENTS) == ("nothing to do" if is_known else None)


def test_a_young_file_may_have_changed_twice_at_one_time(project: Path) -> None:
    look(project, after=0)
    assert answer(ARGUMENTS) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda note: note[: len(note) // 2],
        lambda note: b"",
        lambda note: b"\0" * 100,
        lambda note: note.replace(b"klock-unchanged 3", b"klock-unchanged 2"),
        lambda note: note + b"s",
        lambda note: note + b"\xff\xfe nothing\n",
    ],
)
def test_a_damaged_note_is_none(damage: Callable[[bytes], bytes], project: Path) -> None:
    look(project)
    note = Path(file_of(ARGUMENTS, store_folder()))
    note.write_bytes(damage(note.read_bytes()))
    assert answer(ARGUMENTS) is None


def test_a_note_is_nobody_else_s_to_read(project: Path) -> None:
    look(project)
    assert Path(file_of(ARGUMENTS, store_folder())).stat().st_mode & 0o077 == 0


def test_a_note_holds_no_variable(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cr3t-value")
    look(project)
    assert b"s3cr3t" not in Path(file_of(ARGUMENTS, store_folder())).read_bytes()


@pytest.mark.parametrize(
    "text",
    [
        IMAGE + "import time\n",
        IMAGE + "import subprocess\nsubprocess.run(['true'])\n",
        IMAGE.replace('.rsync("one.txt", "/one.txt")', '.sync_package("pkg")'),
    ],
    ids=["not plain", "a program", "a package by its name"],
)
def test_what_no_stat_can_vouch_for_is_not_noted(
    text: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "site/pkg-1.dist-info"
    _written(info / "METADATA", "Metadata-Version: 2.1\nName: pkg\nVersion: 1\n")
    _written(info / "direct_url.json", f'{{"url": "file://{project}/src", "dir_info": {{"editable": true}}}}')
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    (project / "kimage.py").write_text(text)
    look(project)
    assert answer(ARGUMENTS) is None


@pytest.mark.parametrize("store", [".", "..", "../.."])
def test_a_store_around_the_project_hides_nothing(project: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLOCK_CACHE_DIR", store)
    look(project)
    if answer(ARGUMENTS) is not None:
        (project / "kimage.py").write_text(IMAGE + "\n")
        assert answer(ARGUMENTS) is None


def test_a_project_among_the_store_s_own_folders_is_not_noted(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLOCK_CACHE_DIR", str(project.parents[1]))
    project.parents[0].rename(project.parents[1] / "records")
    monkeypatch.chdir(project.parents[1] / "records/project")
    assert look(project.parents[1] / "records/project") is None


def test_an_image_that_is_not_the_locked_one_is_not_noted(project: Path) -> None:
    """As with --frozen."""
    loaded = load_image()
    drafts = draft_steps(loaded.image.steps, root=loaded.root, base=BASE, environ={})
    for steps in (drafts[:1], [drafts[0]] * len(drafts)):
        lock = lockfile_of(loaded.image, steps)
        old = Seen(arguments=ARGUMENTS, started=time.time_ns() + 10**10)
        assert looked(old, loaded=loaded, lock=lock, store=Store()) is None


def test_what_changes_while_it_is_looked_at_is_not_noted(project: Path) -> None:
    found = look(project)
    assert found is not None
    note = Path(file_of(ARGUMENTS, store_folder()))
    note.unlink()
    found.remember("nothing to do", environment=[project / "one.txt"], is_so=lambda: False)
    assert not note.exists()
    # What was looked at counts, not what is there when the note is written.
    (project / "link").unlink()
    (project / "link").symlink_to("other")
    found.remember("nothing to do")
    assert note.exists() and answer(ARGUMENTS) is None


@pytest.mark.parametrize("mode", ["r", "r+", "rb"])
def test_a_file_of_others_packages_that_the_image_reads_is_watched(project: Path, mode: str) -> None:
    path = project / "venv/lib/python3.11/site-packages/acme/names.txt"
    _written(path, "numpy\n")
    text = f"with open('{path}', '{mode}') as file:\n    names = file.read().split()\n"
    (project / "kimage.py").write_text(text + IMAGE)
    look(project)
    assert answer(ARGUMENTS) == "nothing to do"
    path.write_text("scipy\n")
    assert answer(ARGUMENTS) is None


def test_what_a_process_is_given_is_no_file(project: Path) -> None:
    (project / "kimage.py").write_text("with open(0, closefd=False) as file:\n    pass\n" + IMAGE)
    look(project)
    assert answer(ARGUMENTS) is None


def test_an_ignore_file_that_was_a_link_is_noticed(project: Path) -> None:
    (project / ".git").mkdir()
    (project / "excluding").write_text("b.py\n")
    (project / ".gitignore").symlink_to("excluding")
    look(project)
    assert answer(ARGUMENTS) == "nothing to do"
    (project / ".gitignore").unlink()
    (project / ".gitignore").write_text("b.py\n")
    assert answer(ARGUMENTS) is None


def test_a_package_is_where_its_project_begins(project: Path) -> None:
    (project / ".git").mkdir()
    for name in ("v1", "v2", "images/lib"):
        _written(project / name / "__init__.py", "")
    (project / "lib").symlink_to("v1")
    _written(project / "images/kimage.py", "import klock as kt\nimage = kt.Image('x').sync_package('./lib')\n")
    (project / "kimage.py").unlink()
    (project / "kimage.py").symlink_to("images/kimage.py")
    watch(ARGUMENTS)
    loaded = load_image("images/kimage.py")
    drafts = draft_steps(loaded.image.steps, root=loaded.root, base=BASE, environ=os.environ)
    watched = seen()
    assert watched is not None
    watched.started += 10**10
    found = looked(watched, loaded=loaded, lock=lockfile_of(loaded.image, drafts), store=Store())
    assert found is not None
    found.remember("nothing to do")
    (project / "lib").unlink()
    (project / "lib").symlink_to("v2")
    assert answer(ARGUMENTS) is None


def test_a_target_with_a_gpu_asks_the_driver_each_time(project: Path) -> None:
    loaded = load_image()
    drafts = draft_steps(loaded.image.steps, root=loaded.root, base=BASE, environ={})
    lock = lockfile_of(loaded.image, drafts, target="linux/amd64/cuda12.4")
    old = Seen(arguments=ARGUMENTS, started=time.time_ns() + 10**10)
    assert looked(old, loaded=loaded, lock=lock, store=Store()) is None


def test_files_of_steps_are_those_that_are_locked(project: Path) -> None:
    """What the tests above rest on: the image has steps with files."""
    image = load_image().image
    drafts = draft_steps(image.steps, root=project, base=BASE, environ={})
    entries = [entry.path for draft in drafts if isinstance(draft, FilesLock) for entry in draft.entries]
    assert entries == [".gitignore", "a", "a/b.py", "main.py", "symlink", "x.txt", ""]


def test_the_files_of_a_stage_are_looked_at_too(project: Path) -> None:
    """Also when nobody reads them: their digests are remembered."""
    (project / "Dockerfile").write_text("FROM a AS b\nCOPY one.txt src/main.py /x/\nFROM a\nCOPY --from=b /x /\n")
    loaded = load_image("Dockerfile")
    (stage,) = loaded.image.stages
    lock = lockfile_of(loaded.image, draft_steps(loaded.image.steps, root=project, base=BASE, environ={}))
    steps = tuple(locked(draft_steps(stage.steps, root=project, base=BASE, environ={})))
    stages = (StageLock(name="b", base=BASE, steps=steps),)
    lock = replace(lock, targets=(replace(lock.targets[0], stages=stages),))
    found = looked(Seen(arguments=ARGUMENTS, started=time.time_ns() + 10**10), loaded=loaded, lock=lock, store=Store())
    assert found is not None
    for name in ("one.txt", "src/main.py"):
        assert any(os.fsencode(project / name) in line for line in found.lines)


# -- an environment that is an image


class Engine:
    """Listens where an engine's service does, and gives one answer to each connection."""

    def __init__(self, path: Path) -> None:
        self.answer = said({"Id": "sha256:1"})
        self.asked: list[bytes] = []
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(65536))
                with suppress(OSError):
                    connection.sendall(self.answer)


def said(value: object, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.0 " + status + b"\r\nContent-Type: application/json\r\n\r\n" + json.dumps(value).encode()


@pytest.fixture
def engine(tmp_path: Path, project: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path / "engine.sock")
    with engine.socket:
        yield engine


def look_at_image(project: Path, engine: Engine, **more: object) -> None:
    """As `look`, for an environment that is an image."""
    found = look(project)
    assert found is not None
    Path(file_of(ARGUMENTS, store_folder())).unlink()
    found.remember("nothing to do", image=(str(engine.path), "localhost/klock/p:latest"), **more)  # type: ignore[arg-type]


def test_an_image_is_asked_for_each_time(project: Path, engine: Engine) -> None:
    look_at_image(project, engine)
    assert [answer(ARGUMENTS) for _ in range(2)] == ["nothing to do"] * 2
    assert engine.asked == [b"GET /images/localhost/klock/p:latest/json HTTP/1.0\r\nHost: klock\r\n\r\n"] * 3


@pytest.mark.parametrize(
    "other",
    [
        said({"Id": "sha256:2"}),
        said({"message": "no such image"}, b"404 Not Found"),
        said({"Id": "sha256:1"}, b"500 Internal Server Error"),
        said({}),
        said({"Id": 1}),
        said(["sha256:1"]),
        said({"Id": "sha256:1"})[:-1],
        b"",
        b"\xff\0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n\xff",
    ],
)
def test_another_answer_of_the_engine_is_no_answer(other: bytes, project: Path, engine: Engine) -> None:
    look_at_image(project, engine)
    engine.answer = other
    assert answer(ARGUMENTS) is None


def test_an_engine_that_is_gone_is_no_answer(project: Path, engine: Engine) -> None:
    look_at_image(project, engine)
    engine.path.unlink()
    assert answer(ARGUMENTS) is None


def test_an_image_that_is_not_there_is_not_noted(project: Path, engine: Engine) -> None:
    engine.answer = said({"message": "no such image"}, b"404 Not Found")
    look_at_image(project, engine)
    assert answer(ARGUMENTS) is None


def test_the_settings_that_lead_to_an_engine_count(project: Path, engine: Engine, tmp_path: Path) -> None:
    settings = tmp_path / "config.json"
    look_at_image(project, engine, settings=[settings])
    assert answer(ARGUMENTS) == "nothing to do"
    settings.write_text('{"currentContext": "other"}')
    assert answer(ARGUMENTS) is None
    look_at_image(project, engine, settings=[settings])
    assert answer(ARGUMENTS) == "nothing to do"
    settings.unlink()
    assert answer(ARGUMENTS) is None


A_CHILD_ELSEWHERE = """
import os, sys
from klock.unchanged.watching import seen, watch

watch([])
open("/dev/null").close()
if os.fork() == 0:
    os.mkdir(sys.argv[1])
    os.chdir(sys.argv[1])
    os.rmdir(sys.argv[1])
    os._exit(len(os.read(os.open("/etc/passwd", os.O_RDONLY), 7)))
_, status = os.wait()
found = seen()
print(os.waitstatus_to_exitcode(status), found.is_all, "/dev/null" in found.paths)
"""


def test_a_child_process_reads_as_if_nobody_watched(tmp_path: Path) -> None:
    """It may have another root, in which no path leads to its working folder."""
    command = [sys.executable, "-c", A_CHILD_ELSEWHERE, str(tmp_path / "gone")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "7 False True\n"
