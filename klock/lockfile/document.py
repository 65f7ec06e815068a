"""`kimage.lock` as text: TOML, one entry a line, sorted where order means nothing, equal bytes for equal locks.

Tables that are equal for all targets stand once; a table that holds for some names them in `targets`. Package tables
follow PEP 751 (`name`, `version`, `index`, `dependencies`, `wheels`, `sdist`, `vcs`), what klock adds is in
`packages.tool.klock`. The last line tells a whole file from one that was cut off.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from klock.digests import canonical_json
from klock.errors import KlockError, LockfileError
from klock.lockfile.codec import decode, encode
from klock.lockfile.model import (
    FIRST_LINE,
    AptLock,
    BaseLock,
    DebianLock,
    EnvLock,
    FilesLock,
    ImageLock,
    Interpreter,
    LockedPackage,
    Lockfile,
    OciLock,
    PipLock,
    SdistArtifact,
    ServiceLock,
    ShellLock,
    StepLock,
    TargetLock,
    VcsArtifact,
    WheelArtifact,
)
from klock.lockfile.names import check_names
from klock.lockfile.requests import check_requests
from klock.project_names import normalised_name
from klock.targets import Target

if TYPE_CHECKING:
    import tomlkit.items

__all__ = ["LOCK_VERSION", "from_text", "to_text"]

LOCK_VERSION: Final = "1.0"
_END: Final = "# end of the lockfile\n"

_BASES: Final[dict[str, type[BaseLock]]] = {"oci": OciLock, "debian": DebianLock}
_STEPS: Final[dict[str, type[StepLock]]] = {
    "set_env_vars": EnvLock,
    "pip_install": PipLock,
    "apt_install": AptLock,
    "copy": FilesLock,
    "run_bash": ShellLock,
    "service": ServiceLock,
}
_RELOCK: Final = "restore it from version control, or remove it and run `klock lock`"


# -- writing


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
    document["base"] = _tables(_merged(names, [[_encode_base(t.base)] for t in targets]))
    if interpreters := _merged(names, [[encode(t.interpreter)] if t.interpreter else [] for t in targets]):
        document["python"] = _tables(interpreters)
    if steps := _merged(names, [[_encode_step(s) for s in t.steps] for t in targets]):
        document["steps"] = _tables(steps)
    packages = _merged(names, [[_encode_package(p) for p in t.packages] for t in targets], ordered=False)
    if packages:
        packages.sort(key=lambda p: (p["name"], p["version"], canonical_json(p)))
        document["packages"] = _tables(packages)
    return FIRST_LINE + tomlkit.dumps(document).rstrip("\n") + "\n\n" + _END


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


def _encode_base(base: BaseLock) -> dict[str, Any]:
    kind = next(k for k, cls in _BASES.items() if isinstance(base, cls))
    return {"kind": kind, **encode(base)}


def _encode_step(step: StepLock) -> dict[str, Any]:
    kind = next(k for k, cls in _STEPS.items() if isinstance(step, cls))
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


_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


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


# -- reading


def from_text(text: str, where: str = "kimage.lock") -> Lockfile:
    """Reads what `to_text` wrote. `where` names the file in messages. Raises LockfileError."""
    import tomllib

    if "\n<<<<<<< " in f"\n{text}":
        hint = "take one side of kimage.py and of the lockfile, then run `klock lock`"
        raise LockfileError(f"{where} has merge conflicts in it", hint=hint)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LockfileError(f"{where} is not valid TOML: {error}", hint=_RELOCK) from error
    _check_version(document.get("lock-version"), where)
    if not text.endswith(_END):
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
    known = {"lock-version", "normalisation", "targets", "image", "base", "python", "steps", "packages"}
    if unknown := sorted(set(document) - known):
        raise LockfileError(f"unknown key {unknown[0]!r}")
    names = document.get("targets")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise LockfileError("targets: an array of at least one target is expected")
    normalisation = document.get("normalisation")
    if type(normalisation) is not int:
        raise LockfileError("normalisation: an integer is expected")
    bases = _rows(document, "base", names)
    interpreters = _rows(document, "python", names)
    steps = _rows(document, "steps", names)
    packages = _rows(document, "packages", names)
    targets = []
    for name in names:
        base = [_decode_kind(_BASES, table, place) for table, place in bases[name]]
        if len(base) != 1:
            raise LockfileError(f"base: {len(base)} tables for the target {name} where one is expected")
        python = [decode(Interpreter, table, place) for table, place in interpreters[name]]
        targets.append(
            TargetLock(
                target=Target.parse(name),
                base=base[0],
                interpreter=python[0] if python else None,
                steps=tuple(_decode_kind(_STEPS, table, place) for table, place in steps[name]),
                packages=tuple(_decode_package(table, place) for table, place in packages[name]),
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
            if name not in rows:
                raise LockfileError(f"{place}.targets: {name!r} is not one of the lockfile's targets")
            rows[name].append((rest, place))
    return rows


def _decode_kind(kinds: dict[str, Any], table: dict[str, Any], place: str) -> Any:
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        raise LockfileError(f"{place}.kind: {kind!r} is none of {', '.join(kinds)}")
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
                file = _decode_file(table["sdist"], f"{place}.sdist")
                artifact = SdistArtifact(
                    name=file.name, url=file.url, size=file.size, sha256=file.sha256, wheel=built, build=build
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
        return LockedPackage(
            name=flat["name"],
            version=flat["version"],
            index=flat.get("index"),
            artifact=artifact,
            dependencies=tuple(d["name"] for d in table.get("dependencies", ())),
            build_only=extra.get("build-only", False),
            replaces=extra.get("replaces"),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise LockfileError(f"{place}: not a package table: {error}") from error


def _decode_file(table: dict[str, Any], place: str) -> WheelArtifact:
    hashes = table.get("hashes")
    sha256 = hashes.get("sha256") if isinstance(hashes, dict) else None
    if sha256 is None:
        raise LockfileError(f"{place}.hashes.sha256 is missing")
    rest = {k: v for k, v in table.items() if k != "hashes"}
    return decode(WheelArtifact, {"url": "", **rest, "sha256": sha256}, place)


def _check_consistency(lockfile: Lockfile) -> None:
    """What a hand edit or a merge breaks while every table still reads well."""
    for target in lockfile.targets:
        check_names(target)
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
