"""What is built from source is built at its own step: over the steps before it, and not before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from klock.lockfile.model import LockedPackage, PipLock, SdistArtifact, TargetLock
from klock.lockfile.reading import from_text
from tests.integration.conftest import copy_store
from tests.integration.index_server import IndexServer, make_sdist, make_wheel
from tests.integration.registry_server import Registry
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

BACKEND: Final = """
import os, zipfile
{imports}
NAME, REQUIRES, NEEDED_FOR = {name!r}, {requires!r}, {needed_for!r}

def compiler(what):
    return open("/usr/bin/compiler").read().strip() if what in NEEDED_FOR else "nobody"

def prepare_metadata_for_build_wheel(folder, settings=None):
    compiler("metadata")
    info = f"{{NAME}}-1.0.dist-info"
    os.mkdir(os.path.join(folder, info))
    for name, text in described(info).items():
        open(os.path.join(folder, name), "w").write(text)
    return info

def described(info):
    requires = "".join(f"Requires-Dist: {{each}}\\n" for each in REQUIRES)
    return {{
        f"{{info}}/METADATA": f"Metadata-Version: 2.1\\nName: {{NAME}}\\nVersion: 1.0\\n{{requires}}",
        f"{{info}}/WHEEL": "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}

def build_wheel(folder, settings=None, metadata=None):
    name, info = f"{{NAME}}-1.0-py3-none-any.whl", f"{{NAME}}-1.0.dist-info"
    files = {{f"{{NAME}}.py": f"MADE_BY = {{compiler('build')!r}}\\n", **described(info)}}
    files[f"{{info}}/RECORD"] = "".join(f"{{path}},,\\n" for path in [*files, f"{{info}}/RECORD"])
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return name
"""
PYPROJECT: Final = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
IMAGE: Final = """\
import klock as kt

image = (
    kt.Image()
    .from_docker("debian:bookworm")
    .pip_install(["lib", "early"])
    .run_bash("echo {compiler} > /usr/bin/compiler")
    .pip_install(["built"])
    .pip_install(["--no-build-isolation late"])
)
"""


def source(
    files: Path, name: str, *, requires: tuple[str, ...] = (), needed_for: tuple[str, ...] = (), imports: str = ""
) -> None:
    """An sdist that finds no compiler before an earlier step brings it."""
    backend = BACKEND.format(name=name, requires=list(requires), needed_for=list(needed_for), imports=imports)
    make_sdist(files, name, "1.0", files={"pyproject.toml": PYPROJECT, "backend.py": backend})


@pytest.fixture
def index(tmp_path: Path) -> Iterator[IndexServer]:
    for version in ("1.0", "2.0"):
        make_wheel(tmp_path, "lib", version)
    source(tmp_path, "early")
    # As flash-attn imports torch, which it does not declare, to say what it requires.
    source(tmp_path, "late", imports="import built, early")
    with IndexServer(tmp_path) as server:
        yield server


@pytest.fixture
def project(root: Account, index: IndexServer, debian_registry: Registry, tmp_path: Path) -> Path:
    folder = root.make_folder(tmp_path.name)
    (folder / "kimage.py").write_text(IMAGE.format(compiler="gcc-12"))
    (folder / "pyproject.toml").write_text(
        f'[tool.klock]\nindex-url = "{index.url}"\nregistry-mirrors = {{ "docker.io" = "{debian_registry.url}" }}\n'
    )
    root.give(folder)
    return folder


def lock(account: Account, project: Path, **variables: str) -> TargetLock:
    done = account.klock("lock", cwd=project, env=variables)
    assert done.returncode == 0, done.stderr
    [target] = from_text((project / "kimage.lock").read_text()).targets
    return target


def steps_of(target: TargetLock) -> list[tuple[str, ...]]:
    return [step.packages for step in target.steps if isinstance(step, PipLock)]


def built(target: TargetLock) -> LockedPackage:
    package = target.packages_by_pin["built==1.0"]
    assert isinstance(package.artifact, SdistArtifact)
    return package


def test_a_source_is_built_on_the_steps_before_it(root: Account, project: Path, index: IndexServer) -> None:
    source(index.folder, "built", needed_for=("build",))
    fresh = root.make_folder("fresh") / "store"
    copy_store(root.store, fresh)
    target = lock(root, project)
    assert steps_of(target) == [("early==1.0", "lib==2.0"), ("built==1.0",), ("late==1.0",)]

    # Once more there is nothing to do, and in another store it is the same.
    text = (project / "kimage.lock").read_text()
    asked = len(index.requests)
    assert root.klock("lock", cwd=project).stdout == ""
    assert ((project / "kimage.lock").read_text(), len(index.requests)) == (text, asked)
    (project / "kimage.lock").unlink()
    lock(root, project, KLOCK_CACHE_DIR=str(fresh))
    assert (project / "kimage.lock").read_text() == text
    said = root.klock("run", "--", "python3", "-c", "import built; print(built.MADE_BY)", cwd=project)
    assert said.stdout == "gcc-12\n", said.stderr

    # What it is built with is another one: so is what it builds, and its version and source stay.
    (project / "kimage.py").write_text(IMAGE.format(compiler="gcc-14"))
    again = lock(root, project)
    assert steps_of(again) == steps_of(target)
    old, new = built(target).artifact, built(again).artifact
    assert isinstance(old, SdistArtifact) and isinstance(new, SdistArtifact)
    assert (old.sha256, old.wheel.name) == (new.sha256, new.wheel.name)
    assert old.wheel.sha256 != new.wheel.sha256


def test_what_only_a_build_can_tell_is_asked_when_it_can_be_built(
    root: Account, project: Path, index: IndexServer
) -> None:
    source(index.folder, "built", requires=("lib<2",), needed_for=("metadata", "build"))
    first = lock(root, project)
    # The answer is that for both steps together: the first one was locked again by it.
    assert steps_of(first) == [("early==1.0", "lib==1.0"), ("built==1.0",), ("late==1.0",)]
    assert built(first).dependencies == ("lib",)
    text = (project / "kimage.lock").read_text()
    assert root.klock("lock", cwd=project).stdout == ""
    assert (project / "kimage.lock").read_text() == text

    # A build that fails although all is there names its step's line.
    source(index.folder, "built", requires=("lib<2",), needed_for=("metadata", "build"))
    (project / "kimage.py").write_text(IMAGE.format(compiler="gcc-12").replace("/usr/bin/compiler", "/usr/bin/other"))
    failed = root.klock("lock", cwd=project)
    assert failed.returncode == 2
    assert "kimage.py:8: pip_install: built: built==1.0 has no wheel, and building its source fails:" in failed.stderr
    assert "No such file or directory: '/usr/bin/compiler'" in failed.stderr


@pytest.mark.soak
def test_a_real_source_is_built_by_a_real_compiler(root: Account, debian_registry: Registry, tmp_path: Path) -> None:
    """gcc comes from Debian's archive, between two steps of packages from PyPI; pycosat has no wheel."""
    project = root.make_folder(tmp_path.name)
    (project / "kimage.py").write_text(
        "import klock as kt\n\nimage = (\n"
        '    kt.Image().from_docker("debian:bookworm").pip_install(["tabulate"])\n'
        '    .apt_install(["gcc", "libc6-dev", "python3-dev"]).pip_install(["pycosat"])\n)\n'
    )
    (project / "pyproject.toml").write_text(
        f'[tool.klock]\nregistry-mirrors = {{ "docker.io" = "{debian_registry.url}" }}\n'
    )
    root.give(project)
    target = lock(root, project)
    assert [[pin.partition("==")[0] for pin in pins] for pins in steps_of(target)] == [["tabulate"], ["pycosat"]]

    # On another machine the wheel is built once more, with the same bytes, and works.
    elsewhere = {"KLOCK_CACHE_DIR": str(root.make_folder("elsewhere") / "store")}
    synced = root.klock("sync", cwd=project, env=elsewhere)
    assert synced.returncode == 0, synced.stderr
    solve = "import pycosat; print(pycosat.solve([[1, -5, 4], [-1, 5, 3, 4], [-3, -4]]))"
    said = root.klock("run", "--", "python3", "-c", solve, cwd=project, env=elsewhere)
    assert said.stdout == "[1, -2, -3, -4, 5]\n", said.stderr
