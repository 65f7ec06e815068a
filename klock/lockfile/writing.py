"""Writes a lockfile's text; `klock.lockfile.format` describes it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

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

if TYPE_CHECKING:
    import tomlkit.items

__all__ = ["to_text"]

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def to_text(lockfile: Lockfile) -> str:
    """The file's text. The same lockfile gives the same text, whatever the order of its targets and packages."""
    import tomlkit

    targets = sorted(lockfile.targets, key=lambda t: t.target)
    names = [str(t.target) for t in targets]
    document = tomlkit.document()
    document["lock-version"] = LOCK_VERSION
    document["normalisation"] = lockfile.normalisation
    document["targets"] = _array(names)
    document["image"] = _table(encode(lockfile.image))
    document["base"] = _tables(_merged(names, [list(_encode_bases(t)) for t in targets]))
    if images := _merged(names, [[encode(t.oci_image)] if t.oci_image else [] for t in targets]):
        document["oci-image"] = _tables(images)
    if interpreters := _merged(names, [[encode(t.interpreter)] if t.interpreter else [] for t in targets]):
        document["python"] = _tables(interpreters)
    if steps := _merged(names, [list(_encode_steps(t)) for t in targets]):
        document["steps"] = _tables(steps)
    packages = _merged(names, [[_encode_package(p) for p in t.packages] for t in targets], ordered=False)
    if packages:
        packages.sort(key=lambda p: (p["name"], p["version"], canonical_json(p)))
        document["packages"] = _tables(packages)
    return FIRST_LINE + tomlkit.dumps(document).rstrip("\n") + "\n\n" + LAST_LINE


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


def _tables(tables: Iterable[dict[str, Any]]) -> tomlkit.items.AoT:
    import tomlkit

    aot = tomlkit.aot()
    for table in tables:
        aot.append(_table(table))
    return aot


def _table(values: dict[str, Any]) -> tomlkit.items.Table:
    import tomlkit

    table = tomlkit.table()
    for key, value in values.items():
        if isinstance(value, dict) and set(value) != {"klock"}:
            table[key] = _inline(value)
        elif isinstance(value, dict):
            tool = tomlkit.table(is_super_table=True)
            tool["klock"] = _table(value["klock"])
            table[key] = tool
        else:
            table[key] = _value(value)
    return table


def _value(value: Any) -> Any:
    import tomlkit

    if isinstance(value, list):
        return _array(value)
    if isinstance(value, dict):
        return _inline(value)
    if isinstance(value, str) and "\n" in value and "'''" not in value and not _CONTROL.search(value):
        return tomlkit.string(value, literal=True, multiline=True) if not value.startswith("\n") else value
    return value


def _array(values: list[Any]) -> tomlkit.items.Array:
    """One entry a line, so that a changed entry is a changed line. An array of one short string stays on its line."""
    import tomlkit

    array = tomlkit.array()
    for value in values:
        array.append(_inline(value) if isinstance(value, dict) else _value_in_line(value))
    array.multiline(len(values) > 1 or any(isinstance(v, dict) for v in values))
    return array


def _value_in_line(value: Any) -> Any:
    return _array_in_line(value) if isinstance(value, list) else value


def _array_in_line(values: list[Any]) -> tomlkit.items.Array:
    import tomlkit

    array = tomlkit.array()
    array.extend(_value_in_line(v) for v in values)
    return array


def _inline(values: dict[str, Any]) -> tomlkit.items.InlineTable:
    import tomlkit

    table = tomlkit.inline_table()
    for key, value in values.items():
        if isinstance(value, dict):
            table[key] = _inline(value)
        else:
            table[key] = _value_in_line(value)
    return table
