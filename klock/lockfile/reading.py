"""Reads a lockfile's text; `klock.lockfile.format` describes it. What does not hold together is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from klock.documents import read_toml, shown
from klock.errors import KlockError, LockfileError
from klock.lockfile.codec import check_types, decode
from klock.lockfile.format import BASES, LAST_LINE, LOCK_VERSION, STEPS
from klock.lockfile.model import (
    CopyLock,
    ImageLock,
    Interpreter,
    LockedPackage,
    Lockfile,
    OciImage,
    PipLock,
    SdistArtifact,
    ShellLock,
    StageLock,
    TargetLock,
    VcsArtifact,
    WheelArtifact,
)
from klock.lockfile.names import check_names
from klock.lockfile.requests import check_requests
from klock.project_names import normalised_name
from klock.targets import Target

__all__ = ["from_text"]

_RELOCK: Final = "restore it from version control, or remove it and run `klock lock`"


def from_text(text: str, where: str = "kimage.lock") -> Lockfile:
    """Reads what `klock.lockfile.writing.to_text` wrote. `where` names the file in messages. Raises LockfileError."""
    if "\n<<<<<<< " in f"\n{text}":
        hint = (
            f"merge kimage.py, then: git checkout --ours {where} && klock lock && git add {where}; "
            "`klock merge-driver --install` has git ask klock the next time"
        )
        raise LockfileError(f"{where} has merge conflicts in it", hint=hint)
    try:
        document = read_toml(text)
    except ValueError as error:
        raise LockfileError(f"{where} is not valid TOML: {error}", hint=_RELOCK) from error
    _check_version(document.get("lock-version"), where)
    if not text.endswith(LAST_LINE):
        raise LockfileError(f"{where} is cut off: its last line is missing", hint=_RELOCK)
    try:
        lockfile = _decode_document(document)
        _check_consistency(lockfile)
    except KlockError as error:
        raise LockfileError(f"{where}: {error.message}", hint=error.hint or _RELOCK) from None
    return lockfile


def _check_version(version: object, where: str) -> None:
    if not isinstance(version, str) or not re.fullmatch(r"\d+\.\d+", version):
        raise LockfileError(f"{where} is not a klock lockfile: it has no lock-version", hint=_RELOCK)
    if version.split(".")[0] != LOCK_VERSION.split(".")[0]:
        raise LockfileError(
            f"{where} has lock-version {version}, this klock reads {LOCK_VERSION.split('.')[0]}.x",
            hint="upgrade klock",
        )


def _decode_document(document: dict[str, Any]) -> Lockfile:
    known = {"lock-version", "normalisation", "targets", "image", "base", "oci-image", "python", "steps", "packages"}
    if unknown := sorted(set(document) - known):
        raise LockfileError(f"unknown key {unknown[0]!r}")
    names = document.get("targets")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise LockfileError("targets: an array of at least one target is expected")
    if len(set(names)) < len(names):
        raise LockfileError("targets: one of them is there twice")
    normalisation = document.get("normalisation")
    if type(normalisation) is not int:
        raise LockfileError("normalisation: an integer is expected")
    bases = _rows(document, "base", names)
    interpreters = _rows(document, "python", names)
    images = _rows(document, "oci-image", names)
    steps = _rows(document, "steps", names)
    packages = _rows(document, "packages", names)
    targets = []
    for name in names:
        bases_of = _by_stage(bases[name])
        base = [_decode_kind(BASES, table, place) for table, place in bases_of.pop("", [])]
        if len(base) != 1:
            raise LockfileError(f"base: {len(base)} tables for the target {name} where one is expected")
        steps_of = _by_stage(steps[name])
        python = [decode(Interpreter, table, place) for table, place in interpreters[name]]
        image = [decode(OciImage, table, place) for table, place in images[name]]
        if len(image) > 1:
            raise LockfileError(
                f"oci-image: {len(image)} tables for the target {name}", hint="run `klock lock --image-digest`"
            )
        targets.append(
            TargetLock(
                target=Target.parse(name),
                base=base[0],
                interpreter=python[0] if python else None,
                steps=tuple(_decode_kind(STEPS, table, place) for table, place in steps_of.pop("", [])),
                packages=tuple(_decode_package(table, place) for table, place in packages[name]),
                stages=tuple(_stages(bases_of, steps_of)),
                oci_image=image[0] if image else None,
            )
        )
    return Lockfile(
        image=decode(ImageLock, document.get("image", {}), "image"), normalisation=normalisation, targets=tuple(targets)
    )


def _rows(document: dict[str, Any], key: str, names: list[str]) -> dict[str, list[tuple[dict[str, Any], str]]]:
    tables = document.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise LockfileError(f"{key}: an array of tables is expected")
    rows: dict[str, list[tuple[dict[str, Any], str]]] = {name: [] for name in names}
    for number, table in enumerate(tables):
        place = f"{key}[{number}]"
        where = table.get("targets", names)
        rest = {k: v for k, v in table.items() if k != "targets"}
        for name in where if isinstance(where, list) else [where]:
            if not isinstance(name, str) or name not in rows:
                raise LockfileError(f"{place}.targets: {shown(name)} is not one of the lockfile's targets")
            rows[name].append((rest, place))
    return rows


_Rows = list[tuple[dict[str, Any], str]]


def _by_stage(rows: _Rows) -> dict[str, _Rows]:
    """Rows by the stage that they name, `""` for those of the target itself."""
    found: dict[str, _Rows] = {}
    for table, place in rows:
        stage = table.get("of-stage", "")
        if not isinstance(stage, str) or ("of-stage" in table and not stage):
            raise LockfileError(f"{place}.of-stage: {shown(stage)} is not the name of a stage")
        found.setdefault(stage, []).append(({k: v for k, v in table.items() if k != "of-stage"}, place))
    return found


def _stages(bases: dict[str, _Rows], steps: dict[str, _Rows]) -> Iterator[StageLock]:
    if unknown := sorted(steps.keys() - bases.keys()):
        raise LockfileError(f"steps: the stage {unknown[0]!r} has no base")
    for name, rows in bases.items():
        if len(rows) != 1:
            raise LockfileError(f"base: {len(rows)} tables for the stage {name} where one is expected")
        yield StageLock(
            name=name,
            base=_decode_kind(BASES, *rows[0]),
            steps=tuple(_decode_kind(STEPS, table, place) for table, place in steps.get(name, [])),
        )


def _decode_kind(kinds: dict[str, Any], table: dict[str, Any], place: str) -> Any:
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        raise LockfileError(f"{place}.kind: {shown(kind)} is not one of {', '.join(kinds)}")
    decoded = decode(kinds[kind], {k: v for k, v in table.items() if k != "kind"}, place)
    if isinstance(decoded, ShellLock):
        check_requests(decoded, place)
    return decoded


def _decode_package(table: dict[str, Any], place: str) -> LockedPackage:
    flat = {k: v for k, v in table.items() if k in ("name", "version", "index")}
    if unknown := sorted(set(table) - {*flat, "dependencies", "wheels", "sdist", "vcs", "tool"}):
        raise LockfileError(f"{place}: unknown key {unknown[0]!r}")
    for key in ("name", "version", "index"):
        if key in flat and not isinstance(flat[key], str):
            raise LockfileError(f"{place}.{key}: a string is expected")
    try:
        extra = table.get("tool", {}).get("klock", {})
        build = tuple(extra.get("build", ()))
        artifact: WheelArtifact | SdistArtifact | VcsArtifact
        if "wheels" in table:
            (wheel,) = table["wheels"]
            artifact = _decode_file(wheel, f"{place}.wheels[0]")
        else:
            built = _decode_file(extra["built-wheel"], f"{place}.tool.klock.built-wheel")
            if "sdist" in table:
                sdist = {key: value for key, value in table["sdist"].items() if key != "subdirectory"}
                file = _decode_file(sdist, f"{place}.sdist")
                artifact = SdistArtifact(
                    name=file.name,
                    url=file.url,
                    size=file.size,
                    sha256=file.sha256,
                    wheel=built,
                    build=build,
                    subdirectory=table["sdist"].get("subdirectory"),
                )
            else:
                vcs = table["vcs"]
                artifact = VcsArtifact(
                    type=vcs["type"],
                    url=vcs["url"],
                    commit=vcs["commit-id"],
                    requested_revision=vcs.get("requested-revision"),
                    subdirectory=vcs.get("subdirectory"),
                    wheel=built,
                    build=build,
                )
        package = LockedPackage(
            name=flat["name"],
            version=flat["version"],
            index=flat.get("index"),
            artifact=artifact,
            dependencies=tuple(d["name"] for d in table.get("dependencies", ())),
            build_only=extra.get("build-only", False),
            replaces=extra.get("replaces"),
        )
        check_types(package, place)
        return package
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise LockfileError(f"{place}: not a package table: {shown(error)}") from error


def _decode_file(table: object, place: str) -> WheelArtifact:
    if not isinstance(table, dict):
        raise LockfileError(f"{place}: a table is expected")
    hashes = table.get("hashes")
    sha256 = hashes.get("sha256") if isinstance(hashes, dict) else None
    if sha256 is None:
        raise LockfileError(f"{place}.hashes.sha256 is missing")
    rest = {k: v for k, v in table.items() if k != "hashes"}
    return decode(WheelArtifact, {"url": "", **rest, "sha256": sha256}, place)


def _check_consistency(lockfile: Lockfile) -> None:
    """What a hand edit or a merge breaks while every table still reads well."""
    for target in lockfile.targets:
        for each in (*target.locks_of_stages.values(), target):
            check_names(each)
            _check_stages(each)
        pins = {p.pin for p in target.packages}
        for number, step in enumerate(target.steps):
            for pin in step.packages if isinstance(step, PipLock) else ():
                if pin not in pins:
                    raise LockfileError(
                        f"steps[{number}].packages: {pin} has no table in packages",
                        hint=_RELOCK,
                    )
        for package in target.packages:
            artifact = package.artifact
            if isinstance(artifact, WheelArtifact) and not _is_wheel_of(artifact.name, package):
                raise LockfileError(f"packages: {package.pin} has the wheel of another package: {artifact.name}")
            for pin in () if isinstance(artifact, WheelArtifact) else artifact.build:
                if pin not in pins:
                    raise LockfileError(f"packages: {package.pin} is built with {pin}, which has no table in packages")


def _check_stages(target: TargetLock) -> None:
    """Each stage that a step takes files from stands before."""
    known = {stage.name for stage in target.stages}
    for number, step in enumerate(target.steps):
        named = [step.stage] if isinstance(step, CopyLock) else []
        named += [mount.stage for mount in step.mounts] if isinstance(step, ShellLock) else []
        if unknown := sorted(name for name in named if name is not None and name not in known):
            raise LockfileError(f"steps[{number}]: there is no stage {unknown[0]!r}", hint=_RELOCK)


def _is_wheel_of(file_name: str, package: LockedPackage) -> bool:
    """Whether a wheel's file name (binary distribution format) has the package's name and version."""
    parts = file_name.split("-")
    if len(parts) < 5 or normalised_name(parts[0]) != package.name:
        return False
    if parts[1] == package.version:
        return True
    from packaging.version import InvalidVersion, Version

    try:
        return Version(parts[1]) == Version(package.version)
    except InvalidVersion:
        return False
