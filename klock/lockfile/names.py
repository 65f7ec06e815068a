"""Names and paths of a lockfile that become files' names: none may lead out of the folder that it is for.

A lockfile comes with a repository, so it may be a stranger's. What klock itself writes always passes.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Final

from klock.errors import LockfileError
from klock.lockfile.model import (
    AptLock,
    CondaLock,
    CopyLock,
    DebianLock,
    DebPackage,
    FileEntry,
    FilesLock,
    LockedPackage,
    PipLock,
    PythonLock,
    ShellLock,
    TargetLock,
    VcsArtifact,
    WheelArtifact,
    WorkdirLock,
)
from klock.patterns import regex

__all__ = ["check_names"]

_FILE_NAME: Final = regex(r"[^./\x00-\x1f\x7f-][^/\x00-\x1f\x7f]*")
# With a host and a port that a client can make sense of (RFC 3986).
_URL: Final = regex(
    r"[A-Za-z][A-Za-z0-9+.-]*:(?:(?!//)|//(?:[^/?#@\[\]\x00-\x20]*@)?"
    r"(?:\[[0-9A-Fa-f:.%]+\]|[^/?#@:\[\]\x00-\x20]*)(?::\d{1,5})?(?=[/?#]|\Z))[^\x00-\x20\x7f]*"
)
_CONDA_NAME: Final = regex(r"[a-z0-9_][a-z0-9_.-]*")  # CEP 26
# git-check-ref-format(1), as far as it keeps a name in its folder.
_COMMIT: Final = regex(r"[0-9a-f]{40}")
_REFERENCE: Final = regex(r"refs(?:/(?![./])(?:(?!\.\.|@\{)[^\x00-\x20\x7f~^:?*\[\\/])+)+")
# Debian Policy 5.6.1, 5.6.12 and 5.6.8.
_DEB: Final = {
    "name": regex(r"[A-Za-z0-9][A-Za-z0-9+.-]*"),
    "version": regex(r"[0-9A-Za-z][0-9A-Za-z.+~:-]*"),
    "architecture": regex(r"[a-z0-9][a-z0-9-]*"),
}


def check_names(target: TargetLock) -> None:
    """Raises LockfileError naming the place, such as `steps[2].entries[0].path`, of what cannot be."""
    for place, value, what in _faults(target):
        raise LockfileError(f"{place}: {value!r} is not {what}")


def _faults(target: TargetLock) -> Iterator[tuple[str, str, str]]:
    """Of each fault the place, the value, and what it should be."""
    if isinstance(target.base, DebianLock):
        yield from _faults_of_debs(target.base.debs, "base")
    for number, step in enumerate(target.steps):
        place = f"steps[{number}]"
        match step:
            case AptLock():
                yield from _faults_of_debs(step.debs, place)
            case FilesLock():
                yield from _faults_of_files(step, place)
            case CopyLock():
                yield from _faults_of_copies(step, place)
            case WorkdirLock():
                if not _is_absolute(step.working_dir):
                    yield f"{place}.working-dir", step.working_dir, "an absolute path in its shortest form"
                written = step.written
                if written is not None and posixpath.normpath("/" + written.lstrip("/")) != step.working_dir:
                    yield f"{place}.written", written, f"another form of {step.working_dir}"
            case CondaLock():
                yield from _faults_of_conda(step, place)
            case PythonLock():
                if step.url and not (step.url.startswith(("https://", "http://")) and _URL.fullmatch(step.url)):
                    yield f"{place}.url", step.url, "a URL"
            case ShellLock():
                yield from _faults_of_mounts(step, place)
            case PipLock():
                for file in step.files:
                    if "\0" in file.path:
                        yield f"{place}.files", file.path, "a path"
    for package in target.packages:
        yield from _faults_of_package(package)


def _faults_of_debs(debs: tuple[DebPackage, ...], place: str) -> Iterator[tuple[str, str, str]]:
    for deb in debs:
        for key, pattern in _DEB.items():
            if not pattern.fullmatch(getattr(deb, key)):
                yield f"{place}.debs.{key}", getattr(deb, key), f"the {key} of a Debian package"
        if not _is_below(posixpath.normpath(deb.path)):
            yield f"{place}.debs.path", deb.path, "a path below the archive's root"


def _faults_of_conda(step: CondaLock, place: str) -> Iterator[tuple[str, str, str]]:
    if not _is_absolute(step.prefix) or step.prefix == "/":
        yield f"{place}.prefix", step.prefix, "an absolute path in its shortest form"
    for number, package in enumerate(step.packages):
        where = f"{place}.packages[{number}]"
        file = package.url.rpartition("/")[2]
        is_url = package.url.startswith(("https://", "http://")) and _URL.fullmatch(package.url)
        if not is_url or not file.endswith((".conda", ".tar.bz2")) or package.url.count("/") < 4:
            yield f"{where}.url", package.url, "the URL of a conda package"
        if not _CONDA_NAME.fullmatch(package.name):
            yield f"{where}.name", package.name, "the name of a conda package"


def _faults_of_files(step: FilesLock, place: str) -> Iterator[tuple[str, str, str]]:
    for key, path in (("destination", step.destination), ("path-file", step.path_file or "/")):
        if not path.startswith("/") or not (path == "/" or _is_below(path[1:])):
            yield f"{place}.{key}", path, "an absolute path in its shortest form"
    for number, entry in enumerate(step.entries):
        is_the_source = entry.path == "" and len(step.entries) == 1 and not entry.is_folder
        if not is_the_source and not _is_below(entry.path):
            yield f"{place}.entries[{number}].path", entry.path, "a path below the source"
    if through := _below_a_link(step.entries):
        yield f"{place}.entries", through, "a path below a folder"


def _faults_of_copies(step: CopyLock, place: str) -> Iterator[tuple[str, str, str]]:
    if not _is_absolute(step.destination):
        yield f"{place}.destination", step.destination, "an absolute path in its shortest form"
    for number, file in enumerate(step.files):
        for key, path in (("path", file.path), ("source", file.source or "")):
            if path and not _is_below(path):
                yield f"{place}.files[{number}].{key}", path, "a relative path in its shortest form"
    for number, path in enumerate([*(text.path for text in step.texts), *(each.path for each in step.downloads)]):
        if path and not _is_below(path):
            yield f"{place}.texts[{number}].path", path, "a relative path in its shortest form"
    for number, each in enumerate(step.downloads):
        if not each.url.startswith(("https://", "http://")) or not _URL.fullmatch(each.url):
            yield f"{place}.downloads[{number}].url", each.url, "a URL"
    for number, repository in enumerate(step.repositories):
        where = f"{place}.repositories[{number}]"
        if not repository.url.startswith(("https://", "http://")) or not _URL.fullmatch(repository.url):
            yield f"{where}.url", repository.url, "a URL"
        if repository.folder and not _is_below(repository.folder):
            yield f"{where}.folder", repository.folder, "a relative path in its shortest form"
        for key, name in (("commit", repository.commit), ("tag", repository.tag)):
            if name and not _COMMIT.fullmatch(name):
                yield f"{where}.{key}", name, "the name of an object of git"
        if repository.reference and not _REFERENCE.fullmatch(repository.reference):
            yield f"{where}.reference", repository.reference, "the full name of a reference of git"


def _faults_of_mounts(step: ShellLock, place: str) -> Iterator[tuple[str, str, str]]:
    for number, mount in enumerate(step.mounts):
        if mount.kind not in ("bind", "cache", "secret", "tmpfs"):
            yield f"{place}.mounts[{number}].kind", mount.kind, "a kind of mount"
        if not (_is_absolute(mount.target) and mount.target != "/") and not (mount.kind == "secret" and mount.variable):
            yield f"{place}.mounts[{number}].target", mount.target, "an absolute path in its shortest form"
        if mount.stage is None and mount.source not in ("", ".") and not _is_below(mount.source):
            yield f"{place}.mounts[{number}].source", mount.source, "a relative path in its shortest form"
    for number, entry in enumerate(step.mounted):
        if not _is_below(entry.path):
            yield f"{place}.mounted[{number}].path", entry.path, "a relative path in its shortest form"


def _is_absolute(path: str) -> bool:
    return path == "/" or (path.startswith("/") and _is_below(path[1:]))


def _below_a_link(entries: tuple[FileEntry, ...]) -> str | None:
    """An entry that lies below one that is not a folder."""
    no_folders = {entry.path for entry in entries if not entry.is_folder}
    for entry in entries:
        parts = entry.path.split("/")
        if any("/".join(parts[:depth]) in no_folders for depth in range(1, len(parts))):
            return entry.path
    return None


def _faults_of_package(package: LockedPackage) -> Iterator[tuple[str, str, str]]:
    artifact = package.artifact
    place = f"packages: {package.pin}"
    names = [artifact.name] if isinstance(artifact, WheelArtifact) else [artifact.wheel.name]
    if not isinstance(artifact, WheelArtifact):
        folder = posixpath.normpath(artifact.subdirectory or ".")
        if folder != "." and not _is_below(folder):
            whole = "repository's root" if isinstance(artifact, VcsArtifact) else "top of the archive"
            yield place, folder, f"a folder below the {whole}"
    if not isinstance(artifact, WheelArtifact | VcsArtifact):
        names.append(artifact.name)
    if not isinstance(artifact, VcsArtifact) and artifact.url and not _URL.fullmatch(artifact.url):
        yield place, artifact.url, "a URL"
    for name in names:
        if not _FILE_NAME.fullmatch(name):
            yield place, name, "the name of a file"


def _is_below(path: str) -> bool:
    return "\0" not in path and all(part not in ("", ".", "..") for part in path.split("/"))
