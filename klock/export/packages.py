"""The Python packages of a target for other installers: pylock.toml (PEP 751), and requirements.txt with hashes.

Both name the one file that is locked of each package, by its SHA-256. What the base has, what only builds need, and
projects that an image copies are not part of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from klock.errors import KlockError
from klock.lockfile.model import LockedPackage, SdistArtifact, TargetLock, VcsArtifact, WheelArtifact

__all__ = ["left_out", "to_pylock", "to_requirements"]

_PYPI: Final = "https://pypi.org/simple"
_MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}


def to_pylock(lock: TargetLock) -> str:
    """The text of a pylock.toml. Raises KlockError for a package that it cannot hold."""
    import tomlkit
    from packaging.pylock import Pylock

    document: dict[str, Any] = {"lock-version": "1.0", "environments": [_environment(lock)]}
    if lock.interpreter is not None:
        major, minor = lock.interpreter.version.split(".")[:2]
        document["requires-python"] = f"=={major}.{minor}.*"
    document["created-by"] = "klock"
    document["packages"] = [_table(package) for package in _installed(lock)]
    Pylock.from_dict(document)
    return f"# The Python packages of {lock.target}.\n" + tomlkit.dumps(document)


def to_requirements(lock: TargetLock) -> str:
    """The text of a requirements.txt for pip and uv. Raises KlockError for a package that has no hash.

    The text names one index, and the packages of other indexes by their URLs. With several indexes uv would take each
    package from the first that has the name, and that index may not have the locked file.
    """
    packages = _installed(lock)
    for package in packages:
        if isinstance(package.artifact, VcsArtifact):
            raise KlockError(
                f"{package.pin} is a commit of {package.artifact.url}, and pip takes no commits beside hashes",
                hint="write the other format: klock export pylock.toml",
            )
    lines = [f"# The Python packages of {lock.target}. Install them with --no-deps."]
    indexes = [package.index for package in packages if package.index is not None]
    default = _PYPI if _PYPI in indexes or not indexes else max(indexes, key=indexes.count)
    lines += [f"--index-url {default}"] if default != _PYPI else []
    lines += [f"{_name(package, default)} \\\n    --hash=sha256:{_file(package).sha256}" for package in packages]
    return "\n".join(lines) + "\n"


def left_out(lock: TargetLock) -> list[str]:
    """The projects that an image copies and installs: no other installer finds them."""
    return sorted({project.name for step in lock.steps for project in getattr(step, "projects", ())})


def _installed(lock: TargetLock) -> Sequence[LockedPackage]:
    packages = [package for package in lock.packages if not package.build_only]
    for package in packages:
        artifact = package.artifact
        if not isinstance(artifact, VcsArtifact) and artifact.url.startswith("file:"):
            raise KlockError(f"{package.pin} is a file that only the environment has: {artifact.url}")
    return packages


def _environment(lock: TargetLock) -> str:
    system, _, machine = lock.target.platform.partition("/")
    return f"sys_platform == '{system}' and platform_machine == '{_MACHINES.get(machine, machine)}'"


def _name(package: LockedPackage, index: str) -> str:
    if package.index == index:
        return package.pin
    file = _file(package)
    within = file.subdirectory if isinstance(file, SdistArtifact) else None
    return f"{package.name} @ {file.url}" + (f"#subdirectory={quote(within)}" if within else "")


def _file(package: LockedPackage) -> WheelArtifact | SdistArtifact:
    assert isinstance(package.artifact, WheelArtifact | SdistArtifact)
    return package.artifact


def _table(package: LockedPackage) -> dict[str, Any]:
    artifact = package.artifact
    table: dict[str, Any] = {"name": package.name, "version": package.version}
    if isinstance(artifact, VcsArtifact):
        vcs = {"type": artifact.type, "url": artifact.url, "requested-revision": artifact.requested_revision}
        vcs |= {"commit-id": artifact.commit, "subdirectory": artifact.subdirectory}
        return table | {"vcs": {key: value for key, value in vcs.items() if value is not None}}
    file = {"url": artifact.url, "size": artifact.size, "hashes": {"sha256": artifact.sha256}}
    if package.index is None:
        within = artifact.subdirectory if isinstance(artifact, SdistArtifact) else None
        return table | {"archive": {**file, **({"subdirectory": within} if within else {})}}
    table["index"] = package.index
    file = {"name": artifact.name, **file}
    return table | ({"wheels": [file]} if isinstance(artifact, WheelArtifact) else {"sdist": file})
