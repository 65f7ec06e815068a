"""The same Dockerfile by podman and by klock, from one base: the same tree, and the same way to start."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import klock
from klock.layers.manifest import Kind
from klock.layers.normalisation import is_left_out
from klock.places.layered import locked_files
from tests.integration.container_engines import ContainerHost, podman_host
from tests.integration.dockerfiles import CASES, EVERY_RUN, Case, write_context
from tests.integration.small_base import write_small_base
from tests.integration.unprivileged import Account

_ENGINES = ("etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", "etc", "dev", "proc", "sys", "run", "tmp")
_FROM = "ARG BASE=oci:./layout:image\nFROM ${BASE}\n"
Tree = Mapping[str, tuple[object, ...]]


@pytest.fixture(scope="module")
def podman(root: Account) -> Iterator[ContainerHost]:
    with podman_host(root) as host:
        yield host


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, podman: ContainerHost) -> Path:
    layout = tmp_path_factory.mktemp("base") / "layout"
    write_small_base(layout, [("tmp/", None)], User="", WorkingDir="/", Cmd=["/bin/sh"], Labels={"of": "base"})
    podman.native("pull", f"oci:{layout}:image")
    # As one layer: this image has no history, and podman wants one line of it for each layer.
    container = podman.native("create", podman.native("images", "--quiet").split()[0], "true").strip()
    archive = layout.with_suffix(".tar")
    podman.native("export", "--output", str(archive), container)
    podman.native("import", "--change", "ENV PATH=/bin", "--change", "CMD /bin/sh", str(archive), "localhost/base")
    return layout


def by_podman(case: Case, folder: Path, podman: ContainerHost) -> tuple[Tree, dict[str, object]]:
    """The tree of the image that podman makes, and its config."""
    given = [word for name, value in case.arguments.items() for word in ("--build-arg", f"{name}={value}")]
    podman.native(
        *("build", "--quiet", "--network=none", "--build-arg", "BASE=localhost/base", *given, "--format=docker"),
        *("--tag", "localhost/built", str(folder)),
    )
    container = podman.native("create", "localhost/built", "true").strip()
    archive = folder.parent / "export.tar"
    podman.native("export", "--output", str(archive), container)
    config = json.loads(podman.native("inspect", "localhost/built"))[0]["Config"]
    podman.native("rm", container)
    tree: dict[str, tuple[object, ...]] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            path = member.name.strip("./")
            if member.isfile() or member.islnk():
                content = tar.extractfile(member)
                assert content is not None
                what: object = hashlib.sha256(content.read()).hexdigest()
            else:
                what = member.linkname if member.issym() else "folder"
            mode = member.mode & 0o7777 if not member.issym() else 0o777
            tree[path] = (oct(mode), member.uid, member.gid, what)
    return _compared(tree), config


def by_klock(case: Case, folder: Path, store: Path) -> tuple[Tree, klock.Project]:
    project = klock.Project(folder / "Dockerfile", store=store, environ={}, build_args=dict(case.arguments))
    (lock,) = project.lock().lockfile.targets
    manifest, _ = locked_files(lock, project.session.workshop)
    tree: dict[str, tuple[object, ...]] = {}
    for path, entry in manifest.items():
        seen = manifest[entry.target] if entry.kind is Kind.HARDLINK and entry.target else entry
        what = (seen.digest or "").removeprefix("sha256:") if seen.kind is Kind.FILE else entry.target or "folder"
        tree[path] = (oct(seen.mode if seen.kind is not Kind.SYMLINK else 0o777), seen.uid, seen.gid, what)
    return _compared(tree), project


def _compared(tree: Mapping[str, tuple[object, ...]]) -> Tree:
    return {path: entry for path, entry in tree.items() if path and path not in _ENGINES and not is_left_out(path)}


def prepare(folder: Path, case: Case, layout: Path) -> Path:
    context = folder / "context"
    context.mkdir()
    write_context(context)
    (context / "Dockerfile").write_text(_FROM + case.text)
    lines = f"{case.ignored}layout\n"
    (context / ".dockerignore").write_text(lines)
    (context / "layout").symlink_to(layout)
    return context


@pytest.mark.soak
@pytest.mark.parametrize("name", CASES)
def test_one_rule(name: str, tmp_path: Path, layout: Path, podman: ContainerHost, module_store: Path) -> None:
    case = CASES[name]
    context = prepare(tmp_path, case, layout)
    if case.expected is None:
        expected, _ = by_podman(case, context, podman)
        found, _ = by_klock(case, context, module_store)
        # podman leaves the folders that it mounted at.
        assert found == {path: entry for path, entry in expected.items() if path not in ("c", "m", "m/x")}
        return
    found, _ = by_klock(case, context, module_store)
    for path, content in case.expected.items():
        mode, uid, _, what = found[path.lstrip("/")]
        said = str(uid) if what == "folder" else what
        assert said == (content if what == "folder" else hashlib.sha256(content.encode()).hexdigest()), (path, mode)
    if "--exclude" in case.text:
        files = {path for path, entry in found.items() if path.startswith("t/") and entry[3] != "folder"}
        assert files == {path.lstrip("/") for path in case.expected}


@pytest.fixture(scope="module")
def module_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A server of the build context's files, in a process of its own: klock forks."""
    folder = tmp_path / "web"
    folder.mkdir()
    write_context(folder)
    command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        match = re.search(r"port (\d+)", process.stdout.readline())
        assert match is not None
        yield f"http://127.0.0.1:{match[1]}"
    finally:
        process.kill()
        process.communicate()


def test_what_add_fetches_and_unpacks(tmp_path: Path, layout: Path, web: str, module_store: Path) -> None:
    text = (
        f"ADD {web}/a.txt {web}/b.txt /t/\nADD --chmod=0644 {web}/x.tar.gz /t/kept.gz\n"
        f"ADD --unpack=true {web}/x.tar.gz /t/x\nADD --unpack {web}/a.txt /t/same/\nADD --unpack=false x.tar /t/\n"
    )
    context = prepare(tmp_path, Case(text=text), layout)
    found, project = by_klock(Case(text=text), context, module_store)
    modes = {path: entry[0] for path, entry in found.items() if path.startswith("t/") and entry[3] != "folder"}
    assert modes == {
        **{"t/a.txt": "0o600", "t/b.txt": "0o600", "t/kept.gz": "0o644", "t/same/a.txt": "0o600", "t/x.tar": "0o644"},
        **{"t/x/t/f": "0o640", "t/x/t/g": "0o640"},
    }
    assert found["t/x/t/f"][1:3] == (7, 8), "owners are the archive's"
    (lock,) = project.session.read_lockfile().targets
    again = klock.sync(context / "Dockerfile", store=module_store, environ={}, offline=True)
    assert again.fingerprint == lock.fingerprint


STARTS = """\
LABEL a=b "c d"="$E"
EXPOSE 80 90/udp
VOLUME /data
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --retries=2 CMD true
USER app
WORKDIR /start
ENTRYPOINT ["/bin/echo", "from"]
CMD ["$HOME", "a b"]
"""


def test_many_rules_in_one_dockerfile(
    tmp_path: Path, layout: Path, podman: ContainerHost, module_store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is built, how it starts, and that it is replayed offline from what was committed."""
    parts = []
    for number, name in enumerate(EVERY_RUN):
        parts.append(CASES[name].text.replace("/t", f"/t{number}"))
    text = "".join([*parts, "USER root\n", "ENV E=$P\n", STARTS])
    arguments = {k: v for name in EVERY_RUN for k, v in CASES[name].arguments.items()}
    ignored = "".join(CASES[name].ignored for name in EVERY_RUN)
    case = Case(text=text, arguments=arguments, ignored=ignored)
    context = prepare(tmp_path, case, layout)
    found, project = by_klock(case, context, module_store)
    expected, config = by_podman(case, context, podman)
    assert found["start"][1] == 1000, "docker gives a WORKDIR to the user of the moment, podman to root"
    assert {**found, "start": ()} == {**expected, "start": ()}
    # How it starts, as podman has it.
    (lock,) = project.session.read_lockfile().targets
    settings = lock.settings
    assert list(settings.entrypoint or ()) == config["Entrypoint"]
    assert list(settings.command or ()) == config["Cmd"]
    assert {p: {} for p in settings.ports} == config["ExposedPorts"]
    assert {p: {} for p in settings.volumes} == config["Volumes"]
    assert (lock.user, lock.working_dir, settings.stop_signal) == ("app", "/start", config["StopSignal"])
    labels = dict(settings.labels)
    assert labels.pop("of") == "base", "what the base says of itself is taken over"
    assert labels.items() <= config["Labels"].items()  # type: ignore[attr-defined]
    # Replayed in another store, from the lockfile and the context alone; nothing is given again on the command line.
    again = klock.Project(context / "Dockerfile", store=tmp_path / "again", environ={})
    assert not again.check().findings
    assert again.sync().fingerprint == lock.fingerprint
    done = again.run([], capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"from $HOME a b\n")
