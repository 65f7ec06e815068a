"""Pip steps from requirement to installed bytes, in a real environment, with a real index."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, cast

import pytest

from klock.digests import digest_of_bytes
from klock.errors import (
    FetchError,
    HashMismatch,
    ImageError,
    KlockError,
    RequirementError,
    ResolutionError,
    StepFailed,
    StoreError,
)
from klock.fetching.mirrors import Mirrors
from klock.files.placed import PlacedFile
from klock.layers.manifest import Kind
from klock.lockfile.model import (
    FilesLock,
    Interpreter,
    LayerLock,
    LocalProject,
    LockedPackage,
    OciBlob,
    OciLayer,
    OciLock,
    PipLock,
    SdistArtifact,
    TargetLock,
    WheelArtifact,
)
from klock.packages import (
    LocalProjectSource,
    PipRequest,
    Question,
    RequirementOptions,
    Resolving,
    ScopedRequirement,
    TargetPython,
    World,
    fetch_packages,
    installed_distributions,
    keyring,
    probe_interpreter,
    resolver,
)
from klock.packages.index_mirrors import IndexMirrors
from klock.packages.resolution import Reconsidered
from klock.packages.uv import UvRun, run_uv
from klock.packages.wheels import wheel_of
from klock.progress import Quiet
from klock.steps import kind_of
from klock.steps.context import Context
from klock.store import Store
from klock.targets import Target
from klock.workshop import SandboxWorkshop
from klock.workshop.protocol import BaseLayer, Command, Layer, Workspace
from tests.integration.container_engines import some_of
from tests.integration.index_server import IndexServer, make_sdist, make_wheel, private_pypiserver
from tests.integration.private_names import PrivateNames

pytestmark = pytest.mark.integration

TAR = "application/vnd.oci.image.layer.v1.tar"
VARIABLES = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
NO_LAYER = LayerLock(digest="sha256:" + "0" * 64, files=0, size=0)

BACKEND = """
import base64, hashlib, os, zipfile

def _write(folder, requires, files):
    name = "built-1.0-py3-none-any.whl"
    info = "built-1.0.dist-info"
    files = dict(files)
    files[info + "/METADATA"] = "Metadata-Version: 2.1\\nName: built\\nVersion: 1.0\\n" + "".join(
        "Requires-Dist: %s\\n" % r for r in requires)
    files[info + "/WHEEL"] = "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += "%s,sha256=%s,%d\\n" % (path, digest, len(text.encode()))
    files[info + "/RECORD"] = record + info + "/RECORD,,\\n"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return name

def build_wheel(folder, settings=None, metadata=None):
    import tool
    built = {"path": os.getcwd(), "epoch": os.environ["SOURCE_DATE_EPOCH"], "tool": tool.__version__}
    return _write(folder, ["lib"], {"built.py": "FACTS = %r\\n" % built})

def build_editable(folder, settings=None, metadata=None):
    return _write(folder, ["lib"], {"built.pth": os.getcwd() + "\\n"})
"""
PYPROJECT = '[build-system]\nrequires = ["tool"]\nbuild-backend = "backend"\nbackend-path = ["."]\n'


class Warnings(Quiet):
    """Keeps what it is warned of, and how far each stage was at its end."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.counted: list[str] = []

    @contextmanager
    def stage(self, name: str, how_far: Callable[[], str] | None = None) -> Iterator[None]:
        yield
        if how_far is not None:
            self.counted.append(f"{name}, {how_far()}")

    def warn(self, message: str) -> None:
        self.said.append(message)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resolution:
    """What all pip steps install: the pins and the local projects of each, and all packages."""

    packages: tuple[LockedPackage, ...]
    steps: tuple[tuple[str, ...], ...]
    projects: tuple[tuple[LocalProject, ...], ...]
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, resolving: Resolving) -> Resolution:
        numbers = range(len(resolving.question.requests))
        return cls(
            packages=resolving.packages,
            steps=tuple(map(resolving.pins, numbers)),
            projects=tuple(map(resolving.projects, numbers)),
            warnings=tuple(resolving.warnings),
        )


@dataclasses.dataclass(slots=True)
class Lab:
    """An engine with a Debian base, an index, and the Python of the base."""

    engine: SandboxWorkshop
    store: Store
    base: OciLock
    python: TargetPython
    files: Path
    index: IndexServer
    progress: Warnings = dataclasses.field(default_factory=Warnings)

    @contextmanager
    def workspace(self, *layers: str) -> Iterator[Workspace]:
        with self.engine.open(self.base.id, layers) as workspace:
            yield workspace

    def resolve(
        self,
        *requests: PipRequest,
        python: TargetPython | None = None,
        previous: tuple[LockedPackage, ...] = (),
        upgrade: bool = False,
        upgrade_packages: frozenset[str] = frozenset(),
        default_index: str | None = None,
        keep_base: bool = False,
        exclude_newer: str | None = None,
        ways: Mapping[str, Any] | None = None,
        offline: bool = False,
        below: tuple[str, ...] = (),
    ) -> Resolution:
        question = Question(
            requests=requests,
            previous=previous,
            upgrade=upgrade,
            upgrade_packages=upgrade_packages,
            default_index=default_index or self.index.url,
            keep_base=keep_base,
            exclude_newer=exclude_newer,
        )
        resolving = Resolving(question=question)
        worlds = self.worlds(*below, python=python or self.python, offline=offline, **(ways or {}))
        number = 0
        while number < len(requests):
            try:
                resolving.lock_step(number, worlds)
                number += 1
            except Reconsidered as again:
                number = again.step
        return Resolution.of(resolving)

    def worlds(self, *layers: str, **fields: Any) -> Callable[[], AbstractContextManager[World]]:
        """The environment of the base and some layers, each time anew."""

        @contextmanager
        def opened() -> Iterator[World]:
            with self.workspace(*layers) as workspace:
                yield World(workspace=workspace, store=self.store, environment=(self.base.id, *layers), **fields)

        return opened

    def layers_of(
        self, resolution: Resolution, *, below: Sequence[Layer] = (), interpreter: Interpreter | None = None
    ) -> list[Layer]:
        """The layers of the pip steps, over what is below."""
        engine, environ = self.engine, dict[str, str]()
        context = Context(
            root=self.files,
            mirrors=Mirrors(),
            store=self.store,
            workshop=engine,
            progress=self.progress,
            environ=environ,
        )
        lock = TargetLock(
            target=Target(),
            base=self.base,
            interpreter=interpreter or self.python.interpreter,
            packages=resolution.packages,
            steps=tuple(copied(layer) for layer in below),
        )
        made = []
        for pins, projects in zip(resolution.steps, resolution.projects, strict=True):
            step = PipLock(requirements=(), packages=pins, layer=NO_LAYER, projects=projects)
            lock = dataclasses.replace(lock, steps=(*lock.steps, step))
            at = context.at(lock, len(lock.steps) - 1)
            new = kind_of(step).make(at, context)
            if new.prove is not None:
                new.prove(context)
            done = new.step
            manifest = engine.layer_manifest(done.layer.digest)
            assert manifest is not None
            made.append(Layer(digest=done.layer.digest, manifest=manifest))
            lock = dataclasses.replace(lock, steps=(*lock.steps[:-1], done))
        return made

    def layer_of(self, resolution: Resolution) -> Layer:
        """The layer of the last step."""
        return self.layers_of(resolution)[-1]

    def trees(self) -> dict[str, int]:
        """The trees in the store, with their inodes."""
        return {path.name: path.stat().st_ino for path in (self.store.root / "trees").glob("tree-*")}


def copied(layer: Layer) -> FilesLock:
    """A step below a pip step, by its layer alone."""
    locked = LayerLock(digest=layer.digest, files=len(layer.manifest), size=layer.manifest.size)
    return FilesLock(source=".", destination="/", entries=(), tree="sha256:" + "0" * 64, layer=locked)


@pytest.fixture(scope="module")
def base(debian_rootfs_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[SandboxWorkshop, Store, OciLock]:
    store = Store(tmp_path_factory.mktemp("packages") / "store")
    engine = SandboxWorkshop(store)
    with open(debian_rootfs_tar, "rb") as file:
        diff_id = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    blob = OciBlob(digest=diff_id, size=0, media_type=TAR)
    layer = OciLayer(digest=diff_id, size=0, media_type=TAR, diff_id=diff_id)
    lock = OciLock(reference="oci:base", index_digest=None, manifest=blob, config=blob, layers=(layer,))
    engine.add_base(lock.id, [BaseLayer(path=debian_rootfs_tar, media_type=TAR, diff_id=diff_id)])
    return engine, store, lock


@pytest.fixture(scope="module")
def python(base: tuple[SandboxWorkshop, Store, OciLock]) -> TargetPython:
    engine, _, lock = base
    with engine.open(lock.id, []) as workspace:
        found = probe_interpreter(workspace, variables=VARIABLES)
    assert found is not None
    return found


@pytest.fixture
def lab(base: tuple[SandboxWorkshop, Store, OciLock], python: TargetPython, tmp_path: Path) -> Iterator[Lab]:
    engine, store, lock = base
    files = tmp_path / "files"
    files.mkdir()
    with IndexServer(files) as index:
        yield Lab(engine, store, lock, python, files, index)


def step(*requirements: str | tuple[str, RequirementOptions], line: int = 7, **fields: object) -> PipRequest:
    scoped = tuple(
        ScopedRequirement(
            text=item if isinstance(item, str) else item[0],
            origin=f"kimage.py:{line}",
            options=RequirementOptions() if isinstance(item, str) else item[1],
        )
        for item in requirements
    )
    fields.setdefault("environment", VARIABLES)
    return PipRequest(requirements=scoped, **fields)  # type: ignore[arg-type]


def pins(packages: Sequence[LockedPackage]) -> list[str]:
    return [package.pin for package in packages]


# -- the interpreter


def test_the_environments_own_python_is_asked(python: TargetPython) -> None:
    found = python.interpreter
    assert (found.path, found.implementation, found.libc) == ("/usr/bin/python3", "cpython", "glibc 2.36")
    assert found.version.startswith("3.11.")
    assert python.markers["python_full_version"] == found.version
    assert "cp311-cp311-manylinux_2_36_x86_64" in python.tags
    assert "cp311-cp311-manylinux_2_37_x86_64" not in python.tags
    assert found.folders is not None
    assert (found.folders.purelib, found.folders.scripts) == (
        "/usr/local/lib/python3.11/dist-packages",
        "/usr/local/bin",
    )
    assert (found.folders.data, found.folders.headers) == ("/usr/local", "/usr/include/python3.11")
    assert found.links == (("/usr/local/man", "/usr/local/share/man"),)
    assert {"pip", "setuptools"} <= python.versions.keys()


def test_an_environment_without_python_has_none(lab: Lab) -> None:
    with lab.workspace() as workspace:
        assert probe_interpreter(workspace, variables={"PATH": "/nowhere"}) is None


def test_a_named_python_that_is_not_there(lab: Lab) -> None:
    with lab.workspace() as workspace, pytest.raises(KlockError) as caught:
        probe_interpreter(workspace, python_path="/v/bin/python", variables=VARIABLES)
    assert caught.value.message == "python_path '/v/bin/python' is not a program in the environment"


def test_kt_python_path_names_a_virtual_environment(lab: Lab) -> None:
    make_wheel(lab.files, "lib", "1.0")
    with lab.workspace() as workspace:
        made = workspace.run(Command(argv=("python3", "-m", "venv", "--without-pip", "/v"), environment=VARIABLES))
        assert made.status == 0
        layer = workspace.snapshot()
    variables = {**VARIABLES, "KT_PYTHON_PATH": "/v/bin/python"}
    with lab.workspace(layer.digest) as workspace:
        venv = probe_interpreter(workspace, variables=variables)
    assert venv is not None
    assert (venv.interpreter.path, venv.installed) == ("/v/bin/python", ())
    [installed] = lab.layers_of(lab.resolve(step("lib")), below=[layer], interpreter=venv.interpreter)
    assert "v/lib/python3.11/site-packages/lib/__init__.py" in installed.manifest
    with lab.workspace(layer.digest, installed.digest) as workspace:
        found = installed_distributions(workspace, python="/v/bin/python", variables=variables)
    assert [(d.name, d.version) for d in found] == [("lib", "1.0")]


def test_uv_runs_where_there_is_no_c_library(lab: Lab, tmp_path: Path) -> None:
    busybox = shutil.which("busybox")
    assert busybox is not None  # Debian's is static
    base = tmp_path / "base.tar"
    with tarfile.open(base, "w") as archive:
        archive.add(busybox, arcname="bin/busybox")
    diff_id = digest_of_bytes(base.read_bytes())
    lab.engine.add_base(diff_id, [BaseLayer(path=base, media_type=TAR, diff_id=diff_id)])
    with lab.engine.open(diff_id, []) as workspace:
        ended = run_uv(workspace, ["--version"], work=tmp_path, variables={})
        assert (ended.status, ended.output.partition(" ")[0]) == (0, "uv")
        assert not [path for path in workspace.snapshot().manifest if "libc" in path or "ld-" in path]


# -- resolving


def test_all_steps_are_resolved_together_and_each_installs_what_it_brings(lab: Lab) -> None:
    for version in ("1.0", "2.0", "3.0"):
        make_wheel(lab.files, "lib", version)
    make_wheel(lab.files, "app", "1.0", requires=["lib"], extras={"fast": ["speed"]})
    make_wheel(lab.files, "speed", "1.0")
    locked = lab.resolve(step("app"), step("lib<3", "app[fast]"))
    assert locked.steps == (("app==1.0", "lib==2.0"), ("speed==1.0",))
    app = locked.packages[0]
    assert (app.name, app.index, app.dependencies) == ("app", lab.index.url, ("lib", "speed"))
    assert isinstance(app.artifact, WheelArtifact)
    content = (lab.files / app.artifact.name).read_bytes()
    assert (app.artifact.size, app.artifact.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert lab.store.find_blob(f"sha256:{app.artifact.sha256}")


def test_the_last_locks_versions_are_kept_until_asked_otherwise(lab: Lab) -> None:
    for name in ("one", "two"):
        make_wheel(lab.files, name, "1.0")
    before = lab.resolve(step("one", "two"))
    for name in ("one", "two"):
        make_wheel(lab.files, name, "1.1")
    assert lab.resolve(step("one", "two"), previous=before.packages) == before
    moved = lab.resolve(step("one", "two"), previous=before.packages, upgrade_packages=frozenset({"Two"}))
    assert pins(moved.packages) == ["one==1.0", "two==1.1"]
    assert pins(lab.resolve(step("one", "two"), previous=before.packages, upgrade=True).packages) == [
        "one==1.1",
        "two==1.1",
    ]
    assert pins(lab.resolve(step("one>1.0", "two"), previous=before.packages).packages) == ["one==1.1", "two==1.0"]


def test_offline_chooses_from_the_last_lock(lab: Lab) -> None:
    make_wheel(lab.files, "lib", "1.0")
    make_wheel(lab.files, "app", "1.0", requires=["lib"])
    before = lab.resolve(step("app"))
    lab.index.requests.clear()
    assert lab.resolve(step("app", "lib"), previous=before.packages, offline=True).steps == (("app==1.0", "lib==1.0"),)
    with pytest.raises(ResolutionError, match=r"^cannot meet kimage.py:7: other\n"):
        lab.resolve(step("app", "other"), previous=before.packages, offline=True)
    assert lab.index.requests == []


@pytest.mark.parametrize("wanted", ["alpha", "alpha --pre"])
def test_a_prerelease_is_allowed_for_the_requirement_that_says_so(lab: Lab, wanted: str) -> None:
    for name in ("alpha", "beta"):
        make_wheel(lab.files, name, "1.0")
        make_wheel(lab.files, name, "2.0rc1")
    locked = lab.resolve(step(("alpha", RequirementOptions(pre="--pre" in wanted)), "beta"))
    assert pins(locked.packages) == ["alpha==2.0rc1" if "--pre" in wanted else "alpha==1.0", "beta==1.0"]


def test_a_scoped_index_serves_its_requirement_and_what_that_alone_needs(lab: Lab, tmp_path: Path) -> None:
    make_wheel(lab.files, "public", "1.0")
    private = tmp_path / "private"
    private.mkdir()
    make_wheel(private, "mine", "2.0", requires=["hidden", "public"])
    make_wheel(private, "mine", "1.0")
    make_wheel(private, "hidden", "1.0")
    make_wheel(private, "public", "9.0")
    with IndexServer(private, username="me", password="s3cr3t/pw") as index:
        scoped = RequirementOptions(index_url=index.url_for("me", "s3cr3t/pw"))
        locked = lab.resolve(step(("mine", scoped), "public"))
        assert {p.pin: p.index for p in locked.packages} == {
            "hidden==1.0": index.url,
            "mine==2.0": index.url,
            "public==1.0": lab.index.url,
        }
        assert "s3cr3t" not in repr(locked)
        with pytest.raises(ResolutionError) as caught:
            lab.resolve(step(("mine", scoped), "hidden", line=3))
        assert caught.value.message == "kimage.py:3: hidden is in no index that this requirement may use"
        with pytest.raises(ResolutionError) as refused:
            lab.resolve(step(("mine>2", scoped)))
        assert "s3cr3t" not in refused.value.message


def test_the_index_variables_of_the_private_registry_example(lab: Lab, tmp_path: Path) -> None:
    make_wheel(lab.files, "my-private-package", "1.0")
    private = tmp_path / "private"
    private.mkdir()
    make_wheel(private, "my-private-package", "1.2.3rc1")
    with IndexServer(private, username="user", password="pass") as index:
        variables = {
            **VARIABLES,
            "UV_EXTRA_INDEX_URL": index.url_for("user", "pass"),
            "UV_PRERELEASE": "allow",
            "UV_INDEX_STRATEGY": "unsafe-best-match",
        }
        locked = lab.resolve(step("my-private-package", environment=variables))
        assert [(p.pin, p.index) for p in locked.packages] == [("my-private-package==1.2.3rc1", index.url)]
        before_them = lab.resolve(step("my-private-package"))
        assert [(p.pin, p.index) for p in before_them.packages] == [("my-private-package==1.0", lab.index.url)]


def test_find_links_name_a_folder_in_the_environment(lab: Lab, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "linked", "1.0")
    file = PlacedFile(path=wheel.name, mode=0o644, source=wheel, digest=digest_of_bytes(wheel.read_bytes()))
    make_wheel(lab.files, "other", "1.0")
    with lab.workspace() as workspace:
        workspace.place([file], "/wheels")
        layer = workspace.snapshot()
    wanted = step(("linked", RequirementOptions(find_links=("/wheels",))), "other")
    locked = lab.resolve(wanted, below=(layer.digest,))
    artifact = locked.packages[0].artifact
    assert isinstance(artifact, WheelArtifact)
    assert artifact.url == f"file:///wheels/{wheel.name}"
    lab.store.blob_path(f"sha256:{artifact.sha256}").unlink()
    fetch_packages(locked.packages, store=lab.store)
    [made] = lab.layers_of(locked, below=[layer])
    assert "usr/local/lib/python3.11/dist-packages/linked/__init__.py" in made.manifest


@pytest.mark.parametrize(("without_hashes", "without_sizes"), [(True, True), (False, True), (True, False)])
def test_nothing_is_locked_without_hash_and_size(
    lab: Lab, tmp_path: Path, without_hashes: bool, without_sizes: bool
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    content = make_wheel(old, "lib", "1.0").read_bytes()
    with IndexServer(old, without_hashes=without_hashes, without_sizes=without_sizes) as index:
        (package,) = lab.resolve(step("lib"), default_index=index.url).packages
    assert isinstance(package.artifact, WheelArtifact)
    assert (package.artifact.size, package.artifact.sha256) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("algorithm", some_of(["sha512", "md5", "blake2b"], "sha512"))
def test_other_hashes_than_sha256_are_checked(lab: Lab, algorithm: str) -> None:
    wheel = make_wheel(lab.files, "lib", "1.0")
    digest = hashlib.new(algorithm, wheel.read_bytes(), usedforsecurity=False).hexdigest()
    for said in (digest.upper(), digest[::-1]):
        lab.index.hashes[wheel.name] = {algorithm: said}
        with IndexServer(lab.files, hashes=lab.index.hashes) as index:  # uv keeps pages for minutes
            if said == digest.upper():
                assert pins(lab.resolve(step("lib"), default_index=index.url).packages) == ["lib==1.0"]
                continue
            with pytest.raises(HashMismatch) as caught:
                lab.resolve(step("lib"), default_index=index.url)
    assert caught.value.message.startswith(f"lib-1.0-py3-none-any.whl: its index says {algorithm}:{digest[::-1]}, but ")
    assert caught.value.message.endswith(f" is {algorithm}:{digest}")


@pytest.mark.parametrize(("more", "is_refused"), [((), True), pytest.param(("other",), False, marks=pytest.mark.soak)])
def test_only_wheels_for_all_that_is_asked_for(lab: Lab, more: tuple[str, ...], *, is_refused: bool) -> None:
    """Then it is for what that requires, too, as for pip and uv."""
    make_source(lab)
    make_wheel(lab.files, "app", "1.0", requires=["built"])
    make_wheel(lab.files, "other", "1.0")
    request = step(("app", RequirementOptions(only_binary=(":own:", "app"))), *more)
    if is_refused:
        with pytest.raises(ResolutionError, match="built"):
            lab.resolve(request)
        return
    assert "built==1.0" in pins(lab.resolve(request).packages)


def test_a_yanked_version_is_warned_of(lab: Lab) -> None:
    wheel = make_wheel(lab.files, "lib", "1.0")
    lab.index.yanked[wheel.name] = "it eats files"
    locked = lab.resolve(step("lib==1.0"))
    assert pins(locked.packages) == ["lib==1.0"]
    assert locked.warnings == ('`lib==1.0` is yanked (reason: "it eats files")',)


@pytest.mark.parametrize("wanted", ["lib", "lib==1.0"])
def test_a_yanked_build_gives_way_to_a_good_one_of_its_version(lab: Lab, wanted: str) -> None:
    good = make_wheel(lab.files, "lib", "1.0")
    yanked = lab.files / "lib-1.0-1-py3-none-any.whl"
    shutil.copy(good, yanked)
    lab.index.yanked[yanked.name] = "wrongly built"
    locked = lab.resolve(step(wanted))
    assert ([p.artifact.name for p in locked.packages], locked.warnings) == ([good.name], ())  # type: ignore[union-attr]


def test_files_that_came_later_do_not_count(lab: Lab) -> None:
    for version, day in (("1.0", "01"), ("2.0", "03")):
        path = make_wheel(lab.files, "lib", version)
        lab.index.uploaded[path.name] = f"2026-01-{day}T12:00:00Z"
    python = vendor(lab.python, "torch", "2.4.0a0+nv")  # the base's own have no date
    locked = lab.resolve(step("lib", "torch"), python=python, exclude_newer="2026-01-03T00:00:00Z")
    assert pins(locked.packages) == ["lib==1.0"]
    with pytest.raises(ResolutionError) as caught:
        lab.resolve(step("lib>=2"), exclude_newer="2026-01-03T00:00:00Z")
    assert caught.value.hint == "exclude-newer hides the files that are newer than its date: choose a later date"


def test_required_hashes_are_kept_to(lab: Lab) -> None:
    wheel = make_wheel(lab.files, "lib", "1.0")
    right = f"sha512:{hashlib.sha512(wheel.read_bytes()).hexdigest()}"
    wanted = ScopedRequirement(text="lib", origin="requirements.txt:1", hashes=(right,))
    assert lab.resolve(PipRequest(requirements=(wanted,), environment=VARIABLES)).steps == (("lib==1.0",),)
    wrong = dataclasses.replace(wanted, hashes=(f"sha512:{'0' * 128}",))
    with pytest.raises(HashMismatch, match=r"^requirements.txt:1: lib==1.0 is lib-1.0-py3-none-any.whl with sha256:"):
        lab.resolve(PipRequest(requirements=(wrong,), environment=VARIABLES))


def test_the_lock_of_another_tool_holds_whatever_packages_require(lab: Lab) -> None:
    wheels = [make_wheel(lab.files, "lib", version) for version in ("1.0", "2.0")]
    make_wheel(lab.files, "lib", "1.0", tag="cp311-cp311-manylinux_2_17_x86_64")  # was not there when it was locked
    make_wheel(lab.files, "app", "1.0", requires=["lib>=2"])
    right = f"sha256:{hashlib.sha256(wheels[0].read_bytes()).hexdigest()}"
    locked = ScopedRequirement(text="lib==1.0", origin="pylock.toml", hashes=(right,), is_locked=True)
    app = ScopedRequirement(text="app==1.0", origin="pylock.toml", is_locked=True)
    found = lab.resolve(PipRequest(requirements=(app, locked), environment=VARIABLES))
    assert [wheel_of(package).name for package in found.packages] == ["app-1.0-py3-none-any.whl", wheels[0].name]


@pytest.mark.parametrize(
    ("wanted", "kind", "message"),
    [
        (
            "lib>=2",
            ResolutionError,
            "cannot meet kimage.py:7: lib>=2\nBecause only lib==1.0 is available and this-image",
        ),
        (
            "nowhere",
            ResolutionError,
            "cannot meet kimage.py:7: nowhere\nBecause nowhere was not found in the package regis",
        ),
        ("lib>>1", RequirementError, "kimage.py:7: 'lib>>1' is not a requirement: "),
    ],
)
def test_what_cannot_be_met_is_named_with_its_line(lab: Lab, wanted: str, kind: type[KlockError], message: str) -> None:
    make_wheel(lab.files, "lib", "1.0")
    with pytest.raises(kind) as caught:
        lab.resolve(step(wanted))
    assert caught.value.message.startswith(message)


def test_an_index_that_is_not_there(lab: Lab) -> None:
    with pytest.raises(FetchError, match="an index cannot be read"):
        once = {**VARIABLES, "UV_HTTP_RETRIES": "0"}
        lab.resolve(step("lib", environment=once), default_index="http://127.0.0.1:9/simple/")


def test_an_index_for_one_project_that_wants_a_login(lab: Lab, tmp_path: Path) -> None:
    make_wheel(lab.files, "lib", "9.0")
    make_wheel(tmp_path, "lib", "1.0")
    with IndexServer(tmp_path, username="me", password="secret-word") as index:
        wanted = step(("lib", RequirementOptions(only_from=index.url)))
        with pytest.raises(FetchError, match=r"/lib/ answers with status 401$"):
            lab.resolve(wanted)
        named = dataclasses.replace(wanted, index_names={"my.corp": index.url})
        login = {"UV_INDEX_MY_CORP_USERNAME": "me", "UV_INDEX_MY_CORP_PASSWORD": "secret-word"}
        assert pins(lab.resolve(named, ways={"environ": login}).packages) == ["lib==1.0"]


def test_a_mirror_changes_nothing_of_a_lock(lab: Lab, tmp_path: Path) -> None:
    make_wheel(lab.files, "lib", "1.0")
    extra = RequirementOptions(extra_index_urls=("http://127.0.0.1:9/extra/",))
    with IndexServer(tmp_path / "none") as dead:
        pass
    table = {dead.url: lab.index.url, "http://127.0.0.1:9/extra": f"{lab.index.url}nothing"}
    locked = lab.resolve(step("lib"), default_index=dead.url, ways={"mirrors": IndexMirrors.of(table, {})})
    artifact = locked.packages[0].artifact
    assert isinstance(artifact, WheelArtifact)
    assert (locked.packages[0].index, artifact.url) == (dead.url, f"{lab.index.url[:-8]}/files/{artifact.name}")
    first = dataclasses.replace(artifact, url="https://files.example/lib.whl")
    before = (dataclasses.replace(locked.packages[0], artifact=first),)
    again = lab.resolve(
        step(("lib", extra)),
        default_index=dead.url,
        ways={"mirrors": IndexMirrors.of(table, {})},
        previous=before,
    )
    assert again.packages == before


@pytest.mark.parametrize("name", ["app @ ", ""])
def test_a_mirror_has_files_that_are_asked_for_by_their_urls(lab: Lab, name: str) -> None:
    make_wheel(lab.files, "app", "1.0", requires=["lib"])
    make_wheel(lab.files, "lib", "1.0")
    mirrors = IndexMirrors.of({"https://gone.example/x": f"{lab.index.url[:-8]}/files"}, {})
    file = "https://gone.example/x/app-1.0-py3-none-any.whl"
    locked = lab.resolve(step(f"{name}{file}"), ways={"mirrors": mirrors})
    assert pins(locked.packages) == ["app==1.0", "lib==1.0"]
    assert (locked.packages[0].index, wheel_of(locked.packages[0]).url) == (None, file)


def with_keyring(folder: Path, service: str, user: str, password: str) -> dict[str, str]:
    """The variables of a user whose keyring, a file, has this password."""
    environ = {
        "UV_KEYRING_PROVIDER": "subprocess",
        "PYTHON_KEYRING_BACKEND": "keyrings.alt.file.PlaintextKeyring",
        "XDG_DATA_HOME": str(folder / "data"),
        "HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
    }
    done = subprocess.run(["keyring", "set", service, user], input=password, text=True, env=environ, check=False)
    assert done.returncode == 0
    return environ


@pytest.mark.parametrize("kind", ["netrc", "variables", "mirror", "keyring"])
def test_a_real_index_behind_tls_and_a_login(
    lab: Lab, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(lab.files, "app", "1.0", requires=["lib"])
    make_wheel(lab.files, "lib", "1.0")
    names = PrivateNames(tmp_path, {})
    with private_pypiserver(lab.files, names.server_context("127.0.0.1"), ("me", "pa:ss/wd")) as url:
        netrc, variables, environ = tmp_path / "netrc", dict(VARIABLES), {}
        mirrors, default_index = IndexMirrors(), url
        if kind == "netrc":
            netrc.write_text("machine 127.0.0.1 login me password pa:ss/wd\n")
        elif kind == "variables":
            variables["UV_DEFAULT_INDEX"] = f"corp={url}"
            environ = {"UV_INDEX_CORP_USERNAME": "me", "UV_INDEX_CORP_PASSWORD": "pa:ss/wd"}
        elif kind == "keyring":
            environ = with_keyring(tmp_path, url, "me", "pa:ss/wd")
            default_index = url.replace("://", "://me@")
        else:
            default_index = "https://index.test/simple"
            with_login = url.replace("://", "://me:pa%3Ass%2Fwd@")
            mirrors = IndexMirrors.of({}, {"KLOCK_INDEX_MIRRORS": f"{default_index}={with_login}"})
        ways: dict[str, Any] = {
            "netrc": netrc,
            "ca_bundle": names.ca_certificate,
            "environ": environ,
            "mirrors": mirrors,
        }
        wanted = step("app", environment=variables)
        locked = lab.resolve(wanted, default_index=default_index, ways=ways)
        assert pins(locked.packages) == ["app==1.0", "lib==1.0"]
        assert "pa:ss" not in repr(locked)
        for package in locked.packages:
            lab.store.blob_path(f"sha256:{wheel_of(package).sha256}").unlink()
        world = World(workspace=cast("Workspace", None), python=lab.python, store=lab.store, **ways)
        # What a sync on another machine asks is another process.
        monkeypatch.setattr(keyring, "_OF_THIS_PROCESS", {})
        credentials = Question(requests=(wanted,), default_index=default_index).collect_credentials(world)
        fetch_packages(locked.packages, store=lab.store, credentials=credentials)
    assert all(lab.store.find_blob(f"sha256:{wheel_of(package).sha256}") for package in locked.packages)


# -- the base's own distributions


def vendor(python: TargetPython, name: str, version: str, *requires: str) -> TargetPython:
    """The same Python with one more distribution in it."""
    from klock.packages.interpreter import InstalledDistribution

    more = InstalledDistribution(name=name, version=version, requires=requires)
    return dataclasses.replace(python, installed=(*python.installed, more))


def test_a_distribution_of_the_base_that_fits_is_left_alone(lab: Lab) -> None:
    make_wheel(lab.files, "setuptools", "99.0")
    make_wheel(lab.files, "app", "1.0", requires=["setuptools", "torch>=2.0", "numpy"])
    make_wheel(lab.files, "numpy", "1.0")
    make_wheel(lab.files, "numpy", "2.0")
    python = vendor(lab.python, "torch", "2.4.0a0+nv", "numpy<2")
    assert lab.resolve(step("app", "torch"), python=python).steps == (("app==1.0", "numpy==1.0"),)


def test_a_distribution_of_the_base_gives_way_to_a_requirement_and_the_lock_says_so(lab: Lab) -> None:
    make_wheel(lab.files, "torch", "2.5")
    make_wheel(lab.files, "torch", "2.6rc1")
    python = vendor(vendor(lab.python, "torch", "2.4.0a0+nv"), "vision", "1.0", "torch<2.5")
    make_wheel(lab.files, "app", "1.0", requires=["net>=2"])
    make_wheel(lab.files, "net", "2.0", requires=["torch>=2.4.1"])
    locked = lab.resolve(step("app"), python=python)
    assert [(p.pin, p.replaces) for p in locked.packages][-1] == ("torch==2.5", "2.4.0a0+nv")
    assert locked.warnings == (
        "torch 2.4.0a0+nv of the base is replaced by 2.5: kimage.py:7: app requires net>=2 requires torch>=2.4.1",
        "vision 1.0 of the base requires torch<2.5, but 2.5 is going to be installed",
    )


def test_a_base_that_is_kept(lab: Lab) -> None:
    make_wheel(lab.files, "torch", "2.5")
    make_wheel(lab.files, "net", "1.0", requires=["torch"])
    make_wheel(lab.files, "net", "2.0", requires=["torch>=2.4.1"])
    python = vendor(lab.python, "torch", "2.4.0a0+nv")
    assert lab.resolve(step("net"), python=python, keep_base=True).steps == (("net==1.0",),)
    with pytest.raises(ResolutionError) as caught:
        lab.resolve(step("net>=2"), python=python, keep_base=True)
    assert "Because net>=2.0 depends on torch>=2.4.1 and torch==2.4.0a0+nv, we can" in caught.value.message
    assert caught.value.hint == "what the base has is kept: ask for versions that fit it, or lock without --keep-base"
    with pytest.raises(ResolutionError) as caught:
        lab.resolve(step("torch>2.4"), python=python, keep_base=True)
    assert caught.value.message == (
        "the base is to be kept, and the image replaces what it has:\n  kimage.py:7: torch>2.4: the base has 2.4.0a0+nv"
    )


def test_force_reinstalls_what_the_step_names(lab: Lab) -> None:
    version = lab.python.versions["wheel"]
    make_wheel(lab.files, "wheel", version)
    assert lab.resolve(step("wheel")).steps == ((),)
    assert lab.resolve(step("wheel", force=True)).steps == ((f"wheel=={version}",),)


# -- installing


def test_an_installation_is_the_same_bytes_each_time(lab: Lab) -> None:
    script = {"hello": "app:main"}
    files = {"app/more.py": "X = {'a', 'b'}\n", "app/tests/test_more.py": "import pytest\n"}
    make_wheel(lab.files, "app", "1.0", requires=["pip>=24"], files=files, scripts=script)
    make_wheel(lab.files, "pip", "99.0")
    locked = lab.resolve(step("app"))
    first, second = lab.layer_of(locked), lab.layer_of(locked)
    assert first.digest == second.digest
    site = "usr/local/lib/python3.11/dist-packages"
    assert {f"{site}/app/more.py", f"{site}/app-1.0.dist-info/RECORD", "usr/local/bin/hello"} <= set(first.manifest)
    shown = lab.engine.shown_manifest(first.digest)
    assert shown is not None
    assert f"{site}/app/__pycache__/more.cpython-311.pyc" in shown, "bytecode is derived, and not locked"
    assert f"{site}/app/tests/test_more.py" in shown
    assert not [path for path in shown if "/app/tests/__pycache__" in path], "nobody imports the package's own tests"
    assert not [path for path in first.manifest if path.endswith(".pyc")]
    names = {path.rpartition("/")[2] for path in first.manifest}
    assert names.isdisjoint({"direct_url.json", "INSTALLER", "uv_cache.json", "REQUESTED"})
    with lab.workspace(first.digest) as workspace:
        found = installed_distributions(workspace, python="/usr/bin/python3", variables=VARIABLES)
        compiled = workspace.read(f"/{site}/app/__pycache__/more.cpython-311.pyc")
    assert {("app", "1.0"), ("pip", "99.0")} <= {(d.name, d.version) for d in found}
    assert compiled is not None
    assert compiled[4:8] == b"\x03\x00\x00\x00", "hash-based and checked (PEP 552): an edited source is noticed"


def test_a_wheel_is_laid_out_and_compiled_once_and_to_the_same_bytes(lab: Lab) -> None:
    many = {f"app/m{n}.py": f"def f{n}(): return {{'a', 'b', {n}}}, 'x{n} y'\n" for n in range(250)}
    make_wheel(lab.files, "app", "1.0", files={**many, "app/bad.py": "not a module\n"})
    make_wheel(lab.files, "more", "1.0", files={"more.py": "X = 'more'\n"})
    lab.engine.remove_unused(keep=[lab.base.id])
    one, both = lab.resolve(step("app")), lab.resolve(step("app", "more"))
    lab.progress.counted.clear()
    lab.layer_of(one)
    assert lab.progress.counted == ["lay out, 1 of 1 wheels", "compile, 252 of 252 modules"]
    before = lab.trees()
    layer = lab.layer_of(both)
    shown = lab.engine.shown_manifest(layer.digest)
    assert shown is not None and len(shown) > len(layer.manifest) + 250
    assert before.items() <= lab.trees().items(), "it was not made again"
    assert len(lab.trees()) == len(before) + 1
    # Compiled together, on another day, they are the same.
    lab.engine.remove_unused(keep=[lab.base.id])
    again = lab.layer_of(both)
    assert (again.digest, lab.engine.shown_manifest(again.digest)) == (layer.digest, shown)


def test_trees_that_are_too_many_to_mount_are_joined(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"p{number}" for number in range(5)]
    for name in names:
        make_wheel(lab.files, name, "1.0", files={"shared/x.py": f"OWNER = {name!r}\n", f"{name}.txt": name})
    locked = lab.resolve(step(*names))
    layer = lab.layer_of(locked)
    shown = lab.engine.shown_manifest(layer.digest)
    parts = lab.engine.trees.parts_of(layer.digest)
    assert parts is not None and len(parts) == 6
    monkeypatch.setattr("klock.workshop.joining.MOST", 3)
    monkeypatch.setattr("klock.workshop.joining.AT_ONCE", 2)
    lab.engine.remove_unused(keep=[lab.base.id])
    assert lab.layer_of(locked).digest == layer.digest
    parts = lab.engine.trees.parts_of(layer.digest)
    assert parts is not None and len(parts) == 4
    assert lab.engine.shown_manifest(layer.digest) == shown
    assert SandboxWorkshop(lab.store).has_layer(layer.digest)
    with lab.workspace(layer.digest) as workspace:
        words = "import p0, p4, shared.x; print(shared.x.OWNER)"
        assert workspace.run(Command(argv=("python3", "-c", words), environment=VARIABLES)).output == b"p4\n"


def test_trees_are_looked_at_before_their_files_are_joined(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """By notes, too: what is joined counts as it was made then."""
    names = [f"j{number}" for number in range(3)]
    for name in names:
        make_wheel(lab.files, name, "1.0", files={f"{name}.txt": name})
    locked = lab.resolve(step(*names))
    layer = lab.layer_of(locked)
    [path] = (lab.store.root / "trees").rglob("j1.txt")
    path.write_text("J1")
    shutil.rmtree(lab.engine.trees.layer(layer.digest))
    monkeypatch.setattr("klock.workshop.joining.MOST", 2)
    by_notes = dataclasses.replace(lab, engine=SandboxWorkshop(lab.store).by_notes)
    with pytest.raises(StoreError, match="was changed in the store"):
        by_notes.layer_of(locked)
    assert by_notes.layer_of(locked).digest == layer.digest
    with lab.workspace(layer.digest) as workspace:
        assert list(workspace.read_matching(["/usr/*/*/*/*/j1.txt", "/usr/*/*/*/j1.txt"]).values()) == [b"j1"]


def test_what_is_left_of_trees_is_not_taken_for_all_of_them_by_notes(lab: Lab) -> None:
    make_wheel(lab.files, "left", "1.0", files={"left.txt": "left"})
    locked = lab.resolve(step("left"))
    layer = lab.layer_of(locked)
    [path] = (lab.store.root / "trees").rglob("left.txt")
    tree = lab.store.root / "trees" / path.relative_to(lab.store.root / "trees").parts[0]
    for folder in (tree, lab.engine.trees.layer(layer.digest)):
        shutil.rmtree(folder)
        folder.mkdir()
        by_notes = dataclasses.replace(lab, engine=SandboxWorkshop(lab.store).by_notes)
        assert by_notes.engine.layer_manifest(layer.digest) is None
        assert by_notes.layer_of(locked).digest == layer.digest
        assert SandboxWorkshop(lab.store).has_layer(layer.digest)


def test_a_tree_that_was_changed_in_the_store_is_made_again(lab: Lab) -> None:
    make_wheel(lab.files, "app", "1.0", files={"app/m.py": "X = 1\n"})
    locked = lab.resolve(step("app"))
    layer = lab.layer_of(locked)
    assert lab.engine.has_layer(layer.digest)
    for name in ("m.py", "m.cpython-311.pyc"):
        [path] = (path for path in (lab.store.root / "trees").rglob(name) if "app" in path.parts)
        before = path.read_bytes()
        path.write_bytes(bytes(len(before)))
        engine = SandboxWorkshop(lab.store)
        assert not engine.has_layer(layer.digest)
        lab = dataclasses.replace(lab, engine=engine)
        assert lab.layer_of(locked).digest == layer.digest
        assert path.read_bytes() == before


def test_a_lock_goes_by_notes_and_a_sync_looks(lab: Lab) -> None:
    """A layer that is composed of known trees costs no look at any file; what is shown to somebody has been seen."""
    make_wheel(lab.files, "app", "1.0", files={"app/m.py": "X = 1\n"})
    locked = lab.resolve(step("app"))
    layer = lab.layer_of(locked)
    [path] = (path for path in (lab.store.root / "trees").rglob("m.py") if "app" in path.parts)
    path.write_text("X = 2\n")
    lab = dataclasses.replace(lab, engine=SandboxWorkshop(lab.store).by_notes)
    assert lab.layer_of(locked).digest == layer.digest
    assert path.read_text() == "X = 2\n"

    # Where something has to run the base is looked at, and this tree is not in its way.
    make_wheel(lab.files, "more", "1.0", files={"more/m.py": "Y = 1\n"})
    assert lab.layer_of(lab.resolve(step("app", "more"))).digest != layer.digest
    assert lab.engine.has_layer(layer.digest)
    looking = lab.engine.by_looking
    assert not looking.has_layer(layer.digest)
    assert lab.layer_of(locked).digest == layer.digest
    assert looking.has_layer(layer.digest)
    assert path.read_text() == "X = 1\n"


def test_what_it_replaces_goes_and_folders_stay_as_they_are(lab: Lab) -> None:
    """A distribution of a lower layer, in the same folder: its files, its bytecode, and folders that are empty then."""
    site = "/usr/local/lib/python3.11/dist-packages"
    make_wheel(lab.files, "app", "1.0", files={"app/old/gone.py": "", "app/stays.py": "X = 1\n"})
    first = lab.layer_of(lab.resolve(step("app")))
    with lab.workspace(first.digest) as workspace:
        words = f"chmod 2775 {site}; python3 -m compileall -q {site}; touch {site}/app/others"
        assert workspace.run(Command(argv=("/bin/sh", "-c", words), environment=VARIABLES)).status == 0
        between = workspace.snapshot()
    make_wheel(lab.files, "app", "2.0", files={"app/stays.py": "X = 2\n"})
    [second] = lab.layers_of(lab.resolve(step("app>1")), below=[first, between])
    removed = sorted(e.path for e in second.manifest.values() if e.kind is Kind.WHITEOUT)
    assert f"{site.lstrip('/')}/app/old" in removed
    assert f"{site.lstrip('/')}/app-1.0.dist-info" in removed
    with lab.workspace(first.digest, between.digest, second.digest) as workspace:
        words = f"cd {site}; stat -c %a .; ls app; python3 -c 'import app.stays; print(app.stays.X)'; ls -d app-*"
        seen = workspace.run(Command(argv=("/bin/sh", "-c", words), environment=VARIABLES))
    assert seen.output.decode().split() == [
        "2775",
        "__init__.py",
        "__pycache__",
        "others",
        "stays.py",
        "2",
        "app-2.0.dist-info",
    ]


def test_a_wheel_that_was_changed_in_the_store_is_not_installed(lab: Lab) -> None:
    make_wheel(lab.files, "changed", "1.0")
    locked = lab.resolve(step("changed"))
    artifact = locked.packages[0].artifact
    assert isinstance(artifact, WheelArtifact)
    blob = lab.store.blob_path(f"sha256:{artifact.sha256}")
    other = make_wheel(blob.parent, "changed", "1.0", files={"changed/evil.py": ""})
    other.replace(blob)
    assert "usr/local/lib/python3.11/dist-packages/changed/evil.py" not in lab.layer_of(locked).manifest
    assert hashlib.sha256(blob.read_bytes()).hexdigest() == artifact.sha256, "it was fetched again"


def test_two_wheels_that_own_one_path_are_installed_in_one_order(lab: Lab) -> None:
    shared = [f"shared/{number}.py" for number in range(3)]
    for name in ("zebra", "ant"):
        make_wheel(lab.files, name, "1.0", files=dict.fromkeys(shared, f"OWNER = {name!r}\n") | {"same.py": "\n"})
    locked = lab.resolve(step("zebra", "ant"))
    layer = lab.layer_of(locked)
    assert lab.progress.said == [
        "step 1: ant and zebra both bring /usr/local/lib/python3.11/dist-packages/shared/0.py and 2 more paths, with "
        "different bytes: klock keeps those of zebra"
    ]
    with lab.workspace(layer.digest) as workspace:
        for path in shared:
            assert workspace.read(f"/usr/local/lib/python3.11/dist-packages/{path}") == b"OWNER = 'zebra'\n"
    make_wheel(lab.files, "file", "1.0", files={"both": ""})
    make_wheel(lab.files, "folder", "1.0", files={"both/x": ""})
    with pytest.raises(StepFailed, match=r"file and folder cannot be installed together: /usr/local/lib"):
        lab.layer_of(lab.resolve(step("file", "folder")))


# -- from source


def make_source(lab: Lab) -> None:
    make_wheel(lab.files, "tool", "1.0")
    make_wheel(lab.files, "lib", "1.0")
    make_sdist(lab.files, "built", "1.0", files={"pyproject.toml": PYPROJECT, "backend.py": BACKEND})


def lose(store: Store, wheel: WheelArtifact) -> None:
    """Removes a built wheel from the store, which keeps such wheels under a second name."""
    found = list(store.root.glob(f"*/sha256/*/{wheel.sha256}"))
    assert len(found) == 2
    for path in found:
        path.unlink()


def test_a_source_distribution_is_built_at_lock_time_and_again_to_the_same_bytes(lab: Lab) -> None:
    make_source(lab)
    locked = lab.resolve(step("built"))
    assert locked.steps == (("built==1.0", "lib==1.0"),)
    assert [(p.pin, p.build_only) for p in locked.packages] == [
        ("built==1.0", False),
        ("lib==1.0", False),
        ("tool==1.0", True),
    ]
    artifact = locked.packages[0].artifact
    assert isinstance(artifact, SdistArtifact)
    assert (artifact.name, artifact.build, artifact.wheel.url) == ("built-1.0.tar.gz", ("tool==1.0",), "")
    layer = lab.layer_of(locked)
    lose(lab.store, artifact.wheel)
    fetch_packages(locked.packages, store=lab.store, all_packages=locked.packages)
    assert lab.layer_of(locked).digest == layer.digest
    with lab.workspace(layer.digest) as workspace:
        facts = workspace.run(
            Command(argv=("python3", "-c", "import built; print(built.FACTS)"), environment=VARIABLES)
        )
    assert facts.output == b"{'path': '/run/klock/work/build/built-1.0', 'epoch': '1577836800', 'tool': '1.0'}\n"


def test_a_project_in_a_folder_of_an_archive_is_built_there_again(lab: Lab) -> None:
    make_wheel(lab.files, "tool", "1.0")
    make_wheel(lab.files, "lib", "1.0")
    make_sdist(lab.files, "built", "1.0", files={"py/pyproject.toml": PYPROJECT, "py/backend.py": BACKEND})
    url = f"{lab.index.url.removesuffix('/simple/')}/files/built-1.0.tar.gz"
    locked = lab.resolve(step(f"built @ {url}#subdirectory=py"))
    artifact = locked.packages[0].artifact
    assert isinstance(artifact, SdistArtifact) and artifact.subdirectory == "py"
    digest = lab.layer_of(locked).digest
    lose(lab.store, artifact.wheel)
    fetch_packages(locked.packages, store=lab.store, all_packages=locked.packages)
    assert lab.layer_of(locked).digest == digest


def test_what_a_build_needs_moves_with_an_upgrade_of_everything_alone(lab: Lab) -> None:
    make_source(lab)
    before = lab.resolve(step("built")).packages
    make_wheel(lab.files, "tool", "2.0")
    renewed = lab.resolve(step("built"), previous=before, upgrade_packages=frozenset({"built", "lib"}))
    assert pins(renewed.packages) == ["built==1.0", "lib==1.0", "tool==1.0"]
    upgraded = lab.resolve(step("built"), previous=before, upgrade=True)
    assert pins(upgraded.packages) == ["built==1.0", "lib==1.0", "tool==2.0"]


@pytest.fixture
def asked_inside(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions that uv was asked in the environment, each by its first words."""
    asked: list[str] = []

    def run(workspace: Workspace, arguments: Sequence[str], **options: Any) -> UvRun:
        asked.append(" ".join(arguments[:2]))
        return run_uv(workspace, arguments, **options)

    monkeypatch.setattr(resolver, "run_uv", run)
    return asked


def test_what_a_build_told_is_known_the_next_time(lab: Lab, asked_inside: list[str]) -> None:
    make_source(lab)
    make_wheel(lab.files, "more", "1.0")
    first = lab.resolve(step("built"))
    assert asked_inside == ["pip compile"], "nobody knows what it requires"
    more = lab.resolve(step("built", "more"), previous=first.packages)
    assert asked_inside == ["pip compile"]
    assert more.steps == (("built==1.0", "lib==1.0", "more==1.0"),)
    lab.store.remove_records("sdist-metadata")
    assert lab.resolve(step("built", "more"), previous=first.packages) == more
    assert len(asked_inside) == 2

    # An sdist that is another one by now, or gives way to a wheel, is asked for as if nothing were known.
    make_wheel(lab.files, "other", "1.0")
    backend = BACKEND.replace('["lib"]', '["other"]')
    make_sdist(lab.files, "built", "1.0", files={"pyproject.toml": PYPROJECT, "backend.py": backend})
    again = lab.resolve(step("built"), previous=first.packages, upgrade_packages=frozenset({"lib"}))
    assert again.steps == (("built==1.0", "other==1.0"),)
    assert len(asked_inside) == 3
    make_wheel(lab.files, "built", "1.0", requires=["more"])
    with_wheel = lab.resolve(step("built"), previous=again.packages, upgrade_packages=frozenset({"other"}))
    assert with_wheel.steps == (("built==1.0", "more==1.0"),)
    assert len(asked_inside) == 3


def test_what_uv_learns_without_a_build_is_left_to_uv(lab: Lab, asked_inside: list[str]) -> None:
    """It reads the metadata of any wheel of a version, and of an sdist that is bound to its PKG-INFO (PEP 643)."""
    make_source(lab)
    make_wheel(lab.files, "built", "1.0", requires=["lib"], tag="cp39-cp39-win_amd64")
    said = "Metadata-Version: 2.2\nName: told\nVersion: 1.0\nRequires-Dist: lib\n"
    backend = BACKEND.replace("built", "told")
    make_sdist(lab.files, "told", "1.0", files={"pyproject.toml": PYPROJECT, "backend.py": backend}, metadata=said)
    lab.store.remove_records("sdist-metadata")
    assert lab.resolve(step("built", "told")).steps == (("built==1.0", "lib==1.0", "told==1.0"),)
    assert asked_inside == []
    assert not (lab.store.root / "records/sdist-metadata").exists()


def _note_wheel(lab: Lab, note: Path, name: str, requires: Sequence[str]) -> None:
    wheel = make_wheel(lab.files.parent, name, "1.0", requires=requires)
    digest = lab.store.add_bytes(wheel.read_bytes())
    artifact = WheelArtifact(name=wheel.name, url="", size=wheel.stat().st_size, sha256=digest.removeprefix("sha256:"))
    note.write_text(json.dumps({"wheel": dataclasses.asdict(artifact)}))


def _lose_wheel(lab: Lab, note: Path) -> None:
    lose(lab.store, WheelArtifact(**json.loads(note.read_text())["wheel"]))


SPOILT: Final[dict[str, Callable[[Lab, Path], object]]] = {
    "cut off": lambda _, note: note.write_bytes(note.read_bytes()[:40]),
    "something else": lambda _, note: note.write_text('{"wheel": [1]}'),
    "another hash": lambda _, note: note.write_text(re.sub('"[0-9a-f]{64}"', f'"{"0" * 64}"', note.read_text())),
    "the wheel of another project": lambda lab, note: _note_wheel(lab, note, "other", []),
    "a wheel that requires something else": lambda lab, note: _note_wheel(lab, note, "built", ["other"]),
    "the wheel is gone": _lose_wheel,
}


@pytest.mark.parametrize("case", some_of(SPOILT, "cut off", "a wheel that requires something else"))
def test_a_spoilt_note_of_a_build_changes_nothing(case: str, lab: Lab, asked_inside: list[str]) -> None:
    make_source(lab)
    make_wheel(lab.files, "other", "1.0")
    lab.store.remove_records("sdist-metadata")
    first = lab.resolve(step("built"))
    (note,) = (lab.store.root / "records/sdist-metadata").iterdir()
    before = note.read_bytes()
    SPOILT[case](lab, note)
    assert lab.resolve(step("built"), previous=first.packages) == first
    assert asked_inside == ["pip compile"] * 2
    assert note.read_bytes() == before, "it is right again"


def test_a_build_that_comes_out_otherwise_is_refused(lab: Lab) -> None:
    make_source(lab)
    locked = lab.resolve(step("built"))
    package = locked.packages[0]
    assert isinstance(package.artifact, SdistArtifact)
    other = dataclasses.replace(package.artifact.wheel, sha256="0" * 64)
    changed = dataclasses.replace(package, artifact=dataclasses.replace(package.artifact, wheel=other))
    with pytest.raises(HashMismatch, match=r"^built==1.0 was built again from its locked source and is now sha256:"):
        lab.layer_of(dataclasses.replace(locked, packages=(changed, *locked.packages[1:])))


_DIGITS: Final = ": only digits differ: a time, a process id, a count or $RANDOM"
UNLIKE: Final = {
    "the time": ('__import__("time").time()', ": a time in seconds since 1970"),
    "the machine": ("[os.getpid(), len(os.sched_getaffinity(0))]", _DIGITS),
}


@pytest.mark.parametrize(("fact", "reason"), UNLIKE.values(), ids=UNLIKE)
def test_a_build_that_does_not_repeat_is_not_locked_unless_its_layer_is_kept(lab: Lab, fact: str, reason: str) -> None:
    make_wheel(lab.files, "tool", "1.0")
    make_wheel(lab.files, "lib", "1.0")
    backend = BACKEND.replace('"tool": tool.__version__', f'"fact": {fact}')
    make_sdist(lab.files, "built", "1.0", files={"pyproject.toml": PYPROJECT, "backend.py": backend})
    with pytest.raises(StepFailed) as caught:
        lab.resolve(step("built"))
    assert caught.value.message == (
        "built is built from source, and each build makes another wheel, built-1.0-py3-none-any.whl:\n"
        f"  built.py other content{reason}"
    )
    assert caught.value.hint is not None and "pip_install(..., keep_layer=True)" in caught.value.hint
    if reason == _DIGITS:
        return
    kept = dataclasses.replace(step("built"), keeps_layer=True)
    assert pins(lab.resolve(kept).packages) == ["built==1.0", "lib==1.0", "tool==1.0"]


def test_without_build_isolation_the_environment_builds(lab: Lab) -> None:
    make_source(lab)
    options = RequirementOptions(no_build_isolation=True)
    locked = lab.resolve(step("tool", ("built==1.0", options)))
    assert locked.steps == (("built==1.0", "lib==1.0", "tool==1.0"),)
    package = locked.packages[0]
    assert isinstance(package.artifact, SdistArtifact)
    assert package.artifact.build == ()
    layer = lab.layer_of(locked)
    lab.store.blob_path(f"sha256:{package.artifact.wheel.sha256}").unlink()
    assert lab.layer_of(locked).digest == layer.digest


def test_a_source_that_does_not_build(lab: Lab) -> None:
    files = {"pyproject.toml": PYPROJECT, "backend.py": "def build_wheel(*a):\n    raise SystemExit('no compiler')\n"}
    make_wheel(lab.files, "tool", "1.0")
    make_sdist(lab.files, "built", "1.0", files=files)
    with pytest.raises(ResolutionError) as caught:
        lab.resolve(step("built"))
    assert caught.value.message.startswith(
        "kimage.py:7: built: built==1.0 has no wheel, and building its source fails: "
    )
    assert "no compiler" in caught.value.message


# -- local projects


@pytest.mark.parametrize(
    ("editable", "static"),
    [(False, True), (True, False), *(pytest.param(same, same, marks=pytest.mark.soak) for same in (False, True))],
)
def test_a_local_project_is_installed_from_its_path(lab: Lab, tmp_path: Path, editable: bool, static: bool) -> None:
    make_source(lab)
    (lab.files / "built-1.0.tar.gz").unlink()
    project = '[project]\nname = "built"\nversion = "1.0"\ndependencies = ["lib"]\n'
    if static:
        make_wheel(lab.files, "pytest", "9.0")
        project += '[project.optional-dependencies]\ndev = ["pytest"]\n'
    folder = tmp_path / "my_lib"
    folder.mkdir()
    (folder / "pyproject.toml").write_text((project if static else "") + PYPROJECT)
    (folder / "backend.py").write_text(BACKEND)
    source = LocalProjectSource(
        path="/my_lib", source=folder, origin="kimage.py:9", extras=("dev",) if static else (), editable=editable
    )
    locked = lab.resolve(step(projects=(source,)))
    assert locked.steps == ((("lib==1.0", "pytest==9.0") if static else ("lib==1.0",)),)
    ((found,),) = locked.projects
    assert (found.name, found.version, found.editable, found.build) == ("built", "1.0", editable, ("tool==1.0",))
    files = [
        PlacedFile(path=path.name, mode=0o644, source=path, digest=digest_of_bytes(path.read_bytes()))
        for path in sorted(folder.iterdir())
    ]
    with lab.workspace() as workspace:
        workspace.place(files, "/my_lib")
        placed = workspace.snapshot()
    layers = [lab.layers_of(locked, below=[placed])[-1] for _ in range(2)]
    assert layers[0].digest == layers[1].digest
    site = "usr/local/lib/python3.11/dist-packages"
    assert f"{site}/built.{'pth' if editable else 'py'}" in layers[0].manifest
    assert not [path for path in layers[0].manifest if path.startswith("my_lib/")]


def test_local_projects_require_each_other(lab: Lab, tmp_path: Path) -> None:
    """As for pip and uv a project that is there is what others of the image mean, and not one of an index. What uv has
    a source for comes from there."""
    for name in ("one", "two", "three", "four"):
        make_wheel(lab.files, name, "9.0", files={"wrong.py": ""})
    for name in ("lib", "more", "tool", "unlike"):
        make_wheel(lab.files, name, "1.0")
    other = make_wheel(tmp_path, "unlike", "2.0")
    with IndexServer(tmp_path) as second:
        projects = {
            "one": 'version = "1.0"\ndependencies = ["two[x]>=1", "three>=3"]\n',
            "two": 'version = "1.0"\ndependencies = []\n[project.optional-dependencies]\n'
            'x = ["lib"]\nall = ["two[x,y]"]\ny = ["more"]\n',
            "three": 'dynamic = ["version"]\ndependencies = ["unlike", "four"]\n'
            '[tool.uv.sources]\nunlike = {index = "second"}\nfour = {path = "../four"}\n'
            f'[[tool.uv.index]]\nname = "second"\nurl = "{second.url}"\nexplicit = true\n',
        }
        sources = []
        for name, text in projects.items():
            folder = tmp_path / name
            folder.mkdir()
            (folder / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n{text}{PYPROJECT}')
            (folder / "backend.py").write_text(BACKEND)
            extras = ("all",) if name == "two" else ()
            sources.append(LocalProjectSource(path=f"/{name}", source=folder, origin="kimage.py:9", extras=extras))
        locked = lab.resolve(step(projects=tuple(sources)))
    assert locked.steps == (("four==9.0", "lib==1.0", "more==1.0", "unlike==2.0"),)
    [unlike] = (wheel_of(package) for package in locked.packages if package.name == "unlike")
    assert unlike.sha256 == hashlib.sha256(other.read_bytes()).hexdigest()
    assert [project.name for project in locked.projects[0]] == ["one", "two", "three"]
    assert locked.warnings == (
        "kimage.py:9: four is a folder for uv (tool.uv.sources of /three), and comes from an index here; copy the "
        "folder, and install its path, too",
    )


@pytest.mark.parametrize(
    ("files", "extras", "message"),
    [
        ({}, (), "kimage.py:9: /my_lib is not a Python project: my_lib has neither pyproject.toml nor setup.py"),
        (
            {"pyproject.toml": '[build-system]\nrequires = []\n[project]\nname = "x"\nversion = "1"\n'},
            ("dev",),
            "kimage.py:9: /my_lib: x has no extra 'dev'",
        ),
    ],
)
def test_a_local_project_that_is_none(
    lab: Lab, tmp_path: Path, files: dict[str, str], extras: tuple[str, ...], message: str
) -> None:
    folder = tmp_path / "my_lib"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    source = LocalProjectSource(path="/my_lib", source=folder, origin="kimage.py:9", extras=extras)
    with pytest.raises(ImageError) as caught:
        lab.resolve(step(projects=(source,)))
    assert caught.value.message == message
