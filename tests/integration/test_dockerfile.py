"""The same Dockerfile by podman and by klock, from one base: the same tree, and the same way to start."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import klock
from klock.layers.manifest import Kind
from klock.layers.normalisation import is_left_out
from klock.lockfile.model import CopyLock
from klock.places.containers.image import image_config
from klock.places.layered import image_config as config_of
from klock.places.layered import locked_files
from klock.steps import describe
from tests.integration.container_engines import ContainerHost, podman_host
from tests.integration.dockerfiles import CASES, EVERY_RUN, Case, write_context
from tests.integration.git_server import commit, git, git_server, new_repository
from tests.integration.registry_server import write_layout
from tests.integration.small_base import Member, archive, write_small_base
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


def by_podman(
    case: Case, folder: Path, podman: ContainerHost, *, base: str = "localhost/base"
) -> tuple[Tree, dict[str, object]]:
    """The tree of the image that podman makes, and its config."""
    given = [word for name, value in case.arguments.items() for word in ("--build-arg", f"{name}={value}")]
    podman.native(
        *("build", "--quiet", "--network=none", "--build-arg", f"BASE={base}", *given, "--format=docker"),
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


def by_klock(case: Case, folder: Path, store: Path, **environ: str) -> tuple[Tree, klock.Project]:
    project = klock.Project(folder / "Dockerfile", store=store, environ=environ, build_args=dict(case.arguments))
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
    (context / "Dockerfile").write_text(case.before + _FROM + case.text)
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
        assert case.modes.get(path) in (None, int(str(mode), 8)), path
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


@pytest.fixture
def any_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.14 has a filter that changes modes and owners, where none is named."""

    def refuse(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo:
        raise AssertionError("the version of Python decides how an archive is unpacked")

    monkeypatch.setattr(tarfile.TarFile, "extraction_filter", staticmethod(refuse), raising=False)


@pytest.mark.usefixtures("any_python")
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


CONFIGS = {
    "a CMD of the base and an ENTRYPOINT": 'ENTRYPOINT ["/bin/echo"]\n',
    "a CMD before the ENTRYPOINT": 'CMD ["a"]\nENTRYPOINT ["/bin/echo"]\n',
    "the last of several": 'CMD a\nCMD ["b", "c"]\nENTRYPOINT x\nENTRYPOINT ["y"]\n',
    "labels in quotes": 'LABEL a="b c" \'d e\'=f g=h\\ i "j"=\'k "l"\'\nLABEL m n o\nLABEL of=mine a=again\n',
    "a label over several lines": 'LABEL a="b \\\n c" \\\n  d=e\n',
    "ports": "ENV P=90\nEXPOSE 80 81/tcp 82/udp $P\nEXPOSE 80\n",
    "volumes": 'ENV V=/v\nVOLUME /a /b\nVOLUME ["/c d", "$V"]\n',
    "a user and a group": "ENV U=app\nUSER $U:more\n",
    "a stop signal": "ARG S=SIGINT\nSTOPSIGNAL $S\n",
    "variables and a folder": 'ENV A=1 B="x y" C=$A\nENV A=2\nWORKDIR /t\nWORKDIR u\n',
}
"""What an image says of how it starts: as podman says it of the same Dockerfile. podman 4.3 does not use SHELL for CMD,
keeps ranges of ports as written, and shows neither health checks nor triggers; unit tests have those."""


@pytest.mark.soak
@pytest.mark.parametrize("name", CONFIGS)
def test_one_config(name: str, tmp_path: Path, layout: Path, podman: ContainerHost, module_store: Path) -> None:
    case = Case(text=CONFIGS[name])
    context = prepare(tmp_path, case, layout)
    _, expected = by_podman(case, context, podman)
    _, project = by_klock(case, context, module_store)
    (lock,) = project.session.read_lockfile().targets
    found = json.loads(image_config(config_of(lock), {}, []))["config"]
    # podman has a label of its own, and a base that was imported: no label, no folder, a command in the shell form.
    labels = {"of": "base", **expected.pop("Labels")}  # type: ignore[dict-item]
    del labels["io.buildah.version"]
    assert found.pop("Labels") == labels
    if expected.get("Cmd") == ["/bin/sh", "-c", "/bin/sh"]:
        expected["Cmd"] = ["/bin/sh"]
    found["Env"] = sorted(text for text in found["Env"] if not text.startswith("HOME="))
    expected = {"WorkingDir": "/", **expected, "Env": sorted(expected["Env"])}  # type: ignore[call-overload]
    assert {key: value for key, value in found.items() if value} == expected


def test_platforms_each_with_its_own_base_where_nothing_runs(tmp_path: Path, module_store: Path) -> None:
    """A name with TARGETARCH is read for each target, and what stands in the stage of one platform is done there."""
    tar = tmp_path / "x.tar"
    for platform in ("linux/amd64", "linux/arm64"):
        tar.write_bytes(archive([("etc/os-release", f"NAME={platform}\n")]))
        write_layout(tmp_path / f"base-{platform.rpartition('/')[2]}", {platform: [tar]}, config={"Env": ["PATH=/bin"]})
    (tmp_path / "pyproject.toml").write_text('[tool.klock]\ntargets = ["linux/amd64", "linux/arm64"]\n')
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "Dockerfile").write_text(
        "FROM --platform=linux/amd64 oci:./base-amd64:image AS on-amd64\n"
        "FROM --platform=linux/arm64 oci:./base-arm64:image AS on-arm64\nWORKDIR /more\n"
        "FROM on-$TARGETARCH\nCOPY a.txt /t/\nARG TARGETPLATFORM\nENV P=$TARGETPLATFORM\n"
    )
    project = klock.Project(tmp_path / "Dockerfile", store=module_store, environ={})
    amd64, arm64 = project.lock().lockfile.targets
    assert [getattr(target.base, "reference", "") for target in (amd64, arm64)] == [
        *("oci:./base-amd64:image", "oci:./base-arm64:image")
    ]
    assert [len(target.steps) for target in (amd64, arm64)] == [3, 4]
    assert [target.environment["P"] for target in (amd64, arm64)] == ["linux/amd64", "linux/arm64"]
    again = klock.Project(tmp_path / "Dockerfile", store=module_store, environ={})
    assert not again.check().findings
    assert not again.lock().written
    (tmp_path / "a.txt").write_text("b")
    changed = klock.Project(tmp_path / "Dockerfile", store=module_store, environ={})
    assert {finding.location for finding in changed.check().findings} == {"Dockerfile:5"}
    assert changed.lock().written


def test_triggers_of_a_base(tmp_path: Path, layout: Path, podman: ContainerHost, module_store: Path) -> None:
    """Done as docker does, each as a step; and they are found again where they are known, or have changed."""
    triggers = ["ARG T=1", "COPY a.txt /t/", "RUN cp /t/a.txt /t/b.$T", "ENV E=2"]
    assert layout.is_dir(), "podman has the base of the base"
    own = tmp_path / "base"
    members: list[Member] = [("tmp/", None)]
    write_small_base(own, members, User="", WorkingDir="/", Cmd=["/bin/sh"], OnBuild=triggers)
    (tmp_path / "base.Dockerfile").write_text("FROM localhost/base\n" + "".join(f"ONBUILD {t}\n" for t in triggers))
    file = str(tmp_path / "base.Dockerfile")
    podman.native("build", "--quiet", "--format=docker", "--tag", "localhost/triggers", "--file", file, str(tmp_path))
    case = Case(text="RUN echo $E > /t/c\n", arguments={"T": "3"})
    context = prepare(tmp_path, case, own)
    expected, config = by_podman(case, context, podman, base="localhost/triggers")
    found, project = by_klock(case, context, module_store)
    assert found == expected
    assert not config.get("OnBuild")
    (lock,) = project.session.read_lockfile().targets
    assert [describe(step).split()[0] for step in lock.steps] == ["arg", "copy", "run", "set_env_vars", "run"]
    assert lock.settings.on_build == ()
    again = klock.Project(context / "Dockerfile", store=module_store, environ={})
    assert not again.check().findings
    assert not again.lock().written
    assert again.sync().fingerprint == lock.fingerprint
    # In the builder the image reads the same.
    (context / "kimage.py").write_text(
        'import klock as kt\nimage = kt.Image.from_dockerfile("Dockerfile", build_args={"T": "3"}).run_bash("true")\n'
    )
    built = klock.Project(context / "kimage.py", lockfile=context / "other.lock", store=module_store, environ={})
    assert built.lock().lockfile.targets[0].layers[:2] == lock.layers[:2]
    loaded = klock.Project(context / "kimage.py", lockfile=context / "other.lock", store=module_store, environ={})
    assert not loaded.check().findings
    # The base has others now.
    shutil.rmtree(own)
    write_small_base(own, members, User="", WorkingDir="/", Cmd=["/bin/sh"], OnBuild=["RUN mkdir /t"])
    moved = klock.Project(context / "Dockerfile", store=module_store, environ={})
    assert [describe(step) for step in moved.lock(upgrade=True).lockfile.targets[0].steps] == [
        "run mkdir /t",
        "run echo $E > /t/c",
    ]


def test_add_of_a_git_repository(tmp_path: Path, layout: Path, module_store: Path) -> None:
    """The tree is that of a real clone; a branch that moved, and a server that is gone, change nothing."""
    served = tmp_path / "served"
    new_repository(served, "inner", {"i.txt": "inner"})
    tools = new_repository(served, "tools", {"s.txt": "sub"})
    git(tools, "-c", "protocol.file.allow=always", "submodule", "add", "-q", "../inner.git", "inner")
    git(tools, "commit", "-q", "-m", "more")
    files: dict[str, str | bytes] = {
        "a.txt": "a\n", "docs/run.sh": "#!/bin/sh\n", "docs/l": "-> ../a.txt", "x.bat": "1\n2\n", "docs/id": "$Id$\n",
        ".gitattributes": "*.bat text eol=crlf\ndocs/id ident\nlfs filter=lfs\n", "lfs": "version https://x\n",
        ".git-hooks/post-checkout": "#!/bin/sh\ntouch /hooked\n", "b.bin": bytes(range(256)) * 300,
    }  # fmt: skip
    source = new_repository(served, "app", files)
    git(source, "-c", "protocol.file.allow=always", "submodule", "add", "-q", "../tools.git", "vendor/tools")
    git(source, "commit", "-q", "-m", "more")
    git(source, "tag", "-a", "-m", "v1", "v1")
    first = git(source, "rev-parse", "HEAD")
    cloned = tmp_path / "cloned"
    git(tmp_path, "-c", "protocol.file.allow=always", "clone", "-q", "--recurse-submodules", str(source), str(cloned))
    with git_server(served, token="s3cret-token-of-git") as web:
        text = (
            f"ADD {web}/app.git /t/all\n"
            f"ADD --keep-git-dir {web}/app.git#v1 /t/kept\n"
            f"ADD --chown=5:6 --chmod=u=rwX,go= {web}/app.git#main:docs /t/docs/\n"
            f"ADD --checksum={first[:12]} --exclude=vendor {web}/app.git?tag=v1&submodules=false /t/mixed\n"
            "ADD a.txt /t/mixed/\n"
        )
        case = Case(text=text)
        context = prepare(tmp_path, case, layout)
        unread = klock.Project(context / "Dockerfile", store=module_store, environ={})
        with pytest.raises(klock.KlockError, match="answered with status 401"):
            unread.lock()
        found, project = by_klock(case, context, module_store, GIT_AUTH_TOKEN="s3cret-token-of-git")
        (lock,) = project.session.read_lockfile().targets
        commit(source, {"later.txt": "later"})
        moved = [finding.message for finding in project.check(upstream=True).findings]
        assert moved == [f"{web}/app.git: refs/heads/main is another commit now"] * 2
        assert project.lock().lockfile.targets == (lock,), "a branch that moved changes nothing"
    assert "s3cret" not in (context / "kimage.lock").read_text()
    repositories = [each for step in lock.steps if isinstance(step, CopyLock) for each in step.repositories]
    assert [each.commit for each in repositories] == [first] * 4
    # As git has it.
    paths = [path for path in sorted(cloned.rglob("*")) if ".git" not in path.parts]
    expected = {str(path.relative_to(cloned)): _on_disk(path) for path in paths}
    for place in ("t/all/", "t/kept/"):
        below = {path.removeprefix(place): entry for path, entry in found.items() if path.startswith(place)}
        assert {path: entry for path, entry in below.items() if path.split("/")[0] != ".git"} == expected
    assert found["t/docs/run.sh"][:3] == ("0o700", 5, 6)
    assert found["t/docs/id"][:3] == ("0o600", 5, 6)
    assert [path for path in found if path.startswith("t/mixed/vendor")] == []
    # A replay in another place, from what is stored alone.
    again = klock.sync(context / "Dockerfile", store=module_store, environ={}, offline=True)
    assert again.fingerprint == lock.fingerprint
    out = tmp_path / "out"
    out.mkdir()
    (kept_one,) = (each for each in repositories if each.keeps_git)
    with tarfile.open(project.session.store.blob_path(f"sha256:{kept_one.sha256}")) as archive:
        archive.extraction_filter = lambda member, path: member
        archive.extractall(out)
    assert git(out, "status", "--porcelain") == ""
    assert git(out, "fsck", "--strict") == ""
    assert git(out, "describe") == "v1"
    assert git(out, "rev-parse", "HEAD", "v1^{commit}").split() == [first, first]


def _on_disk(path: Path) -> tuple[object, ...]:
    """An entry as `by_klock` has it."""
    mode = oct(0o777 if path.is_symlink() else path.stat().st_mode & 0o7777)
    if path.is_symlink():
        return (mode, 0, 0, str(path.readlink()))
    return (mode, 0, 0, "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest())
