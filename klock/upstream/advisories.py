"""Known vulnerabilities of locked packages: from a folder of advisories in the OSV format, and from an index's own API.

OSV schema 1.6 (ossf.github.io/osv-schema); PyPI's JSON API (docs.pypi.org/api/json). Nobody's word is believed in more
than that a version is named: what a package does is not looked at.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from packaging.version import InvalidVersion, Version

from klock.debian.versions import DebVersion
from klock.documents import read_json
from klock.errors import KlockError
from klock.escaping import on_one_line
from klock.findings import Code, Finding
from klock.lockfile.model import DebianLock, DebPackage, LockedPackage, Lockfile, TargetLock
from klock.project_names import normalised_name
from klock.steps import kind_of
from klock.values import dataclass
from klock.words import counted

if TYPE_CHECKING:
    from klock.asking import Asker
    from klock.steps.context import Context

__all__ = ["Advisory", "Locked", "affects", "from_folder", "from_indexes", "locked_in"]

_LARGEST: Final = 8 << 20
"""Bytes of one advisory."""
_LONGEST: Final = 160
"""Characters of a summary."""
_SUITES: Final = {"buster": 10, "bullseye": 11, "bookworm": 12, "trixie": 13, "forky": 14, "duke": 15}
_OF_RELEASE: Final = re.compile(r"[+~]deb(\d+)u\d+")
_REBUILT: Final = re.compile(r"\+b\d+$")
_PYPI: Final = re.compile(r"(?P<host>https://pypi\.org)/simple/?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """A locked package as advisories name it. `ecosystem` is OSV's: `PyPI`, `Debian:12`. `shown` is for people."""

    ecosystem: str
    name: str
    version: str
    shown: str
    step: int | None = None
    location: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Advisory:
    """What is told of a vulnerability. `fixed` are the versions that it is mended in."""

    ids: tuple[str, ...]
    summary: str = ""
    fixed: tuple[str, ...] = ()

    def about(self, locked: Locked) -> Finding:
        also = f" ({', '.join(self.ids[1:4])})" if len(self.ids) > 1 else ""
        summary = f": {self.summary}" if self.summary else ""
        fixed = f"; fixed in {', '.join(self.fixed[:3])}" if self.fixed else "; no fixed version is known"
        return Finding(
            code=Code.ADVISORY,
            message=f"{locked.shown}: {self.ids[0]}{also}{summary}{fixed}",
            step=locked.step,
            location=locked.location,
            found=self.ids[0],
        )


def locked_in(
    lock: Lockfile, context: Context, *, base_location: str | None, note: Callable[[str], None]
) -> list[Locked]:
    """The packages of all targets, each once."""
    found: dict[tuple[str, str, str], Locked] = {}
    for target in lock.targets:
        for each in _of_target(target, context, base_location, note):
            found.setdefault((each.ecosystem, each.name, each.version), each)
    return list(found.values())


def _of_target(
    lock: TargetLock, context: Context, base_location: str | None, note: Callable[[str], None]
) -> Iterator[Locked]:
    base = lock.base
    if isinstance(base, DebianLock):
        yield from _debs(base.debs, base.suite, None, base_location, note)
    suite = base.suite if isinstance(base, DebianLock) else None
    for at in context.each(lock):
        fetched = list(kind_of(at.step).fetched(at))
        for package in fetched:
            if isinstance(package, LockedPackage):
                yield Locked(
                    ecosystem="PyPI",
                    name=package.name,
                    version=package.version,
                    shown=f"{package.name} {package.version}",
                    step=at.position + 1,
                    location=at.location,
                )
        debs = [each for each in fetched if isinstance(each, DebPackage)]
        yield from _debs(debs, suite, at.position + 1, at.location, note)


def _debs(
    debs: Sequence[DebPackage],
    suite: str | None,
    step: int | None,
    location: str | None,
    note: Callable[[str], None],
) -> Iterator[Locked]:
    """Advisories name the source package, which a .deb's folder in the archive is called by."""
    told = [match[1] for deb in debs if (match := _OF_RELEASE.search(deb.version))]
    release = _SUITES.get(suite or "") or (max(map(int, told)) if told else None)
    if release is None:
        if debs:
            where = f"step {step}" if step else "the base"
            note(f"no advisories were looked up for the packages of {where}: klock does not know their Debian release")
        return
    for deb in debs:
        folders = deb.path.split("/")
        source = folders[-2] if len(folders) > 2 else deb.name
        yield Locked(
            ecosystem=f"Debian:{release}",
            name=source,
            version=_REBUILT.sub("", deb.version),
            shown=f"{deb.name} {deb.version}",
            step=step,
            location=location,
        )


# -- a folder of advisories


def from_folder(folder: Path, packages: Sequence[Locked], note: Callable[[str], None]) -> Iterator[Finding]:
    """What the advisories in `folder` say of `packages`. `note` is told of those that cannot be read.

    Raises KlockError for a folder without any.
    """
    by_name: dict[tuple[str, str], list[Locked]] = {}
    for package in packages:
        by_name.setdefault((package.ecosystem, package.name), []).append(package)
    named = _any_of({package.name for package in packages})
    count, unreadable = 0, list[str]()
    for name, content in _documents(folder):
        if content is None or not _is_object(content):
            unreadable.append(name)
            continue
        count += 1
        if not named.search(content):
            continue
        try:
            document = read_json(content)
        except ValueError:
            unreadable.append(name)
            continue
        if isinstance(document, dict) and not document.get("withdrawn"):
            yield from _judge(document, by_name)
    if unreadable:
        # An advisory that nobody reads must not look like packages that are safe.
        shown = on_one_line(", ".join(unreadable[:3])) + (", ..." if len(unreadable) > 3 else "")
        note(f"skipped {counted(len(unreadable), 'advisory')} in {folder} that cannot be read: {shown}")
    if not count:
        raise KlockError(
            f"there are no advisories in {folder}", hint="name a folder with .json files of OSV, or .zip files of them"
        )


def _is_object(content: bytes) -> bool:
    """Whether the bytes begin and end as a JSON object does: that costs little, and finds what was cut short."""
    text = content.removeprefix(b"\xef\xbb\xbf").strip()
    return text.startswith(b"{") and text.endswith(b"}")


def _documents(folder: Path) -> Iterator[tuple[str, bytes | None]]:
    """The name and the bytes of each advisory; None for one that is too large."""
    try:
        files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".zip") and path.is_file())
    except OSError as error:
        raise KlockError(f"cannot read {folder}: {error.strerror}") from error
    for file in files:
        if file.suffix == ".json":
            yield file.name, file.read_bytes() if file.stat().st_size <= _LARGEST else None
            continue
        try:
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    if member.filename.endswith(".json"):
                        yield member.filename, archive.read(member) if member.file_size <= _LARGEST else None
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
            raise KlockError(f"cannot read {file}: {error}", hint="fetch it again") from error


def _any_of(names: Iterable[str]) -> re.Pattern[bytes]:
    """The names between quotation marks, in any spelling: most advisories are of others, and need not be parsed."""
    spelled = (re.sub(r"(\\?[-_.])+", r"[-_.]+", re.escape(name)) for name in sorted(names))
    return re.compile(f'"(?:{"|".join(spelled) or "(?!)"})"'.encode(), re.IGNORECASE)


def _judge(document: Mapping[str, Any], by_name: Mapping[tuple[str, str], Sequence[Locked]]) -> Iterator[Finding]:
    for affected in _dicts(document.get("affected")):
        package = affected.get("package")
        if not isinstance(package, dict):
            continue
        ecosystem, name = str(package.get("ecosystem")), str(package.get("name"))
        key = (ecosystem, normalised_name(name) if ecosystem == "PyPI" else name)
        for locked in by_name.get(key, ()):
            if affects(affected, locked):
                yield _advisory(document, affected).about(locked)


def affects(affected: Mapping[str, Any], locked: Locked) -> bool:
    """Whether one entry of an advisory's `affected` is about the locked version (OSV schema, "Evaluation")."""
    versions = affected.get("versions")
    if isinstance(versions, list) and locked.version in versions:
        return True
    order: Callable[[str], _Ordered] = Version if locked.ecosystem == "PyPI" else DebVersion
    try:
        own = order(locked.version)
    except InvalidVersion:
        return False
    for each in _dicts(affected.get("ranges")):
        if each.get("type") in ("ECOSYSTEM", "SEMVER") and _is_in(each, own, order):
            return True
    return False


class _Ordered(Protocol):
    def __lt__(self, other: Any) -> bool: ...


def _is_in(given: Mapping[str, Any], own: _Ordered, order: Callable[[str], _Ordered]) -> bool:
    """Events in the order of their versions: `introduced` begins what is vulnerable, `fixed` and what is after
    `last_affected` end it. `0` is before all versions."""
    first, later = [], []
    for event in _dicts(given.get("events")):
        for name, text in event.items():
            if text == "0":
                first.append(name)
            else:
                try:
                    later.append((order(str(text)), name))
                except InvalidVersion:
                    continue
    is_vulnerable = "introduced" in first
    for here, name in sorted(later, key=lambda event: event[0]):
        if name == "introduced" and not own < here:
            is_vulnerable = True
        elif (name == "fixed" and not own < here) or (name == "last_affected" and here < own):
            is_vulnerable = False
    return is_vulnerable


def _advisory(document: Mapping[str, Any], affected: Mapping[str, Any]) -> Advisory:
    ids = [document.get("id"), *_list(document.get("aliases"))]
    events = [event for given in _dicts(affected.get("ranges")) for event in _dicts(given.get("events"))]
    return Advisory(
        ids=_texts(ids) or ("an advisory without a name",),
        summary=_summary(document.get("summary") or document.get("details")),
        fixed=_texts(event["fixed"] for event in events if "fixed" in event),
    )


# -- an index's own API


def from_indexes(lock: Lockfile, packages: Sequence[Locked], asker: Asker) -> Iterator[Finding]:
    """What PyPI says of the packages that are from there."""
    indexes = {(p.name, p.version): p.index for target in lock.targets for p in target.packages}
    asked: list[tuple[str, Locked]] = []
    for package in packages:
        match = _PYPI.fullmatch(indexes.get((package.name, package.version)) or "")
        if package.ecosystem == "PyPI" and match is not None:
            asked.append((f"{match['host']}/pypi/{package.name}/{package.version}/json", package))

    def ask(item: tuple[str, Locked]) -> list[Finding]:
        answer = asker.ask(item[0])
        if answer.status != 200:
            return []
        try:
            told = _dicts(read_json(answer.body).get("vulnerabilities"))
        except (ValueError, AttributeError):
            return []
        return [_of_pypi(each).about(item[1]) for each in told if not each.get("withdrawn")]

    for found in asker.each(ask, asked):
        if isinstance(found, KlockError):
            asker.note(found.message)
        else:
            yield from found


def _of_pypi(told: Mapping[str, Any]) -> Advisory:
    return Advisory(
        ids=_texts([told.get("id"), *_list(told.get("aliases"))]) or ("an advisory without a name",),
        summary=_summary(told.get("summary") or told.get("details")),
        fixed=_texts(_list(told.get("fixed_in"))),
    )


def _summary(text: object) -> str:
    words = on_one_line(" ".join(str(text or "").split()))
    return words if len(words) <= _LONGEST else words[: _LONGEST - 3].rstrip() + "..."


def _texts(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(on_one_line(value)[:100] for value in values if isinstance(value, str) and value))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _dicts(value: object) -> list[dict[str, Any]]:
    return [each for each in _list(value) if isinstance(each, dict)]
