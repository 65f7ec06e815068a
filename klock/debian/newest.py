"""The newest version of each package that a suite and its updates have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from klock.asking import Answer, Asker
from klock.debian.apt_root import Lists
from klock.debian.archive import releases_of
from klock.debian.releases import is_valid
from klock.debian.versions import DebVersion
from klock.digests import digest_of_bytes, digest_of_json
from klock.fetching.mirrors import Mirrors
from klock.store import Store
from klock.workshop.scratch import scratch_folder

__all__ = ["newest_in_suite"]

_RECORDS: Final = "debian-newest"


def newest_in_suite(
    suite: str, names: Sequence[str], *, architecture: str, mirrors: Mirrors, store: Store, asker: Asker
) -> dict[str, str]:
    """By name, of `names` those that the suite has. `architecture` is Debian's name of it.

    While the signed indexes are those that were last looked at, nothing but these is fetched; else the host's apt
    fetches the lists and checks their signatures. Raises FetchError, EngineError, ResolutionError.
    """
    key = digest_of_json([suite, architecture, sorted(mirrors.debian.items()), sorted(names)])
    releases = _releases(asker.each(asker.ask, releases_of(suite, mirrors.debian)))
    known = store.read_record(_RECORDS, key)
    if releases is not None and isinstance(known, dict) and known.get("releases") == releases:
        return {str(name): str(version) for name, version in known["newest"].items()}
    with scratch_folder(store) as folder:
        lists = Lists.fetch(
            suite,
            architecture=architecture,
            archives=mirrors.debian,
            ca_bundle=mirrors.ca_bundle,
            folder=folder / "lists",
        )
        found = _newest(lists.indexes, frozenset(names), architecture)
        seen = sorted(digest_of_bytes(path.read_bytes()) for path in lists.downloaded.glob("*_InRelease"))
    store.write_record(_RECORDS, key, {"releases": seen, "newest": found})
    return found


def _releases(answers: Iterable[object]) -> list[str] | None:
    """The digests of the signed indexes, if all are there and may still be believed."""
    found = []
    for answer in answers:
        if not isinstance(answer, Answer) or answer.status != 200 or not is_valid(answer.body):
            return None
        found.append(digest_of_bytes(answer.body))
    return sorted(found)


def _newest(indexes: Iterable[Path], names: frozenset[str], architecture: str) -> dict[str, str]:
    found: dict[str, DebVersion] = {}
    for index in indexes:
        name = kind = ""
        with open(index, encoding="utf-8", errors="replace") as file:
            for line in file:
                field, _, value = line.rstrip("\n").partition(": ")
                if field == "Package":
                    name, kind = value, ""
                elif field == "Architecture":
                    kind = value
                elif field == "Version" and name in names and kind in ("", "all", architecture):
                    version = DebVersion(value)
                    found[name] = max(found.get(name, version), version)
    return {name: str(version) for name, version in sorted(found.items())}
