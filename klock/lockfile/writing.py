"""Writes a lockfile's text; `klock.lockfile.format` describes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from klock.digests import canonical_json
from klock.lockfile.codec import encode
from klock.lockfile.format import BASES, LAST_LINE, LOCK_VERSION, STEPS
from klock.lockfile.model import (
    FIRST_LINE,
    BaseLock,
    LockedPackage,
    Lockfile,
    SdistArtifact,
    StepLock,
    TargetLock,
    WheelArtifact,
)
from klock.toml_text import entries, tables

__all__ = ["to_text"]


def to_text(lockfile: Lockfile) -> str:
    """The file's text. The same lockfile gives the same text, whatever the order of its targets and packages."""
    targets = sorted(lockfile.targets, key=lambda t: t.target)
    names = [str(t.target) for t in targets]
    head = {"lock-version": LOCK_VERSION, "normalisation": lockfile.normalisation, "targets": names}
    packages = _merged(names, [[_encode_package(p) for p in t.packages] for t in targets], ordered=False)
    packages.sort(key=lambda p: (p["name"], p["version"], canonical_json(p)))
    rows = {
        "base": _merged(names, [list(_encode_bases(t)) for t in targets]),
        "oci-image": _merged(names, [[encode(t.oci_image)] if t.oci_image else [] for t in targets]),
        "python": _merged(names, [[encode(t.interpreter)] if t.interpreter else [] for t in targets]),
        "steps": _merged(names, [list(_encode_steps(t)) for t in targets]),
        "packages": packages,
    }
    parts = [FIRST_LINE, entries(head), "\n[image]\n", entries(encode(lockfile.image))]
    parts += [tables(name, each, apart="tool") for name, each in rows.items()]
    return "".join(parts) + "\n" + LAST_LINE


def _merged(names: list[str], columns: list[list[dict[str, Any]]], *, ordered: bool = True) -> list[dict[str, Any]]:
    """One table for all targets that agree; `targets` is added where they do not. Order within a target is kept."""
    rows: list[tuple[dict[str, Any], list[str]]] = []
    if ordered:
        for position in range(max(map(len, columns), default=0)):
            here: dict[bytes, tuple[dict[str, Any], list[str]]] = {}
            for name, column in zip(names, columns, strict=True):
                if position < len(column):
                    table = column[position]
                    here.setdefault(canonical_json(table), (table, []))[1].append(name)
            rows.extend(here.values())
    else:
        found: dict[bytes, tuple[dict[str, Any], list[str]]] = {}
        for name, column in zip(names, columns, strict=True):
            for table in column:
                found.setdefault(canonical_json(table), (table, []))[1].append(name)
        rows.extend(found.values())
    return [table if len(where) == len(names) else {"targets": where, **table} for table, where in rows]


def _encode_bases(target: TargetLock) -> Iterator[dict[str, Any]]:
    """Of each stage, and of the target itself, which comes last."""
    for stage in target.stages:
        yield {"of-stage": stage.name, **_encode_base(stage.base)}
    yield _encode_base(target.base)


def _encode_steps(target: TargetLock) -> Iterator[dict[str, Any]]:
    for stage in target.stages:
        yield from ({"of-stage": stage.name, **_encode_step(step)} for step in stage.steps)
    yield from map(_encode_step, target.steps)


def _encode_base(base: BaseLock) -> dict[str, Any]:
    kind = next(k for k, cls in BASES.items() if isinstance(base, cls))
    return {"kind": kind, **encode(base)}


def _encode_step(step: StepLock) -> dict[str, Any]:
    kind = next(k for k, cls in STEPS.items() if isinstance(step, cls))
    return {"kind": kind, **encode(step)}


def _encode_package(package: LockedPackage) -> dict[str, Any]:
    table: dict[str, Any] = {"name": package.name, "version": package.version}
    if package.index:
        table["index"] = package.index
    if package.dependencies:
        table["dependencies"] = [{"name": name} for name in sorted(package.dependencies)]
    extra: dict[str, Any] = {}
    artifact = package.artifact
    if isinstance(artifact, WheelArtifact):
        table["wheels"] = [_encode_file(artifact)]
    else:
        if isinstance(artifact, SdistArtifact):
            table["sdist"] = _encode_file(artifact)
            if artifact.subdirectory:
                table["sdist"]["subdirectory"] = artifact.subdirectory
        else:
            table["vcs"] = {"type": artifact.type, "url": artifact.url, "commit-id": artifact.commit}
            if artifact.subdirectory:
                table["vcs"]["subdirectory"] = artifact.subdirectory
            if artifact.requested_revision is not None:
                table["vcs"]["requested-revision"] = artifact.requested_revision
        extra["built-wheel"] = _encode_file(artifact.wheel)
        if artifact.build:
            extra["build"] = sorted(artifact.build)
    if package.build_only:
        extra["build-only"] = True
    if package.replaces:
        extra["replaces"] = package.replaces
    if extra:
        table["tool"] = {"klock": extra}
    return table


def _encode_file(file: WheelArtifact | SdistArtifact) -> dict[str, Any]:
    table: dict[str, Any] = {"name": file.name}
    if file.url:
        table["url"] = file.url
    return {**table, "size": file.size, "hashes": {"sha256": file.sha256}}
