"""Whether Debian has anything new: the signed index of each archive, compared with those that were last resolved.

A suite's `InRelease` has the hash of every list, so equal ones mean equal packages. apt has checked the signature of
the remembered ones; these bytes are compared and nothing else of them is believed. One that is no longer valid is
apt's to refuse (Debian's repository format: `Valid-Until`).
"""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

from klock.debian.archive import releases_of
from klock.digests import Digest, digest_of_bytes, digest_of_json
from klock.errors import FetchError
from klock.fetching.mirrors import Mirrors
from klock.fetching.transport import Transport
from klock.image.steps import DebianBase
from klock.lockfile.model import DebPackage
from klock.store import Store
from klock.values import dataclass

__all__ = ["Resolutions", "is_valid"]

_RECORDS: Final = "debian-resolutions"
_RULES: Final = 1
"""The version of the rules by which names come to packages."""
_VALID_UNTIL: Final = re.compile(rb"^Valid-Until: (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolutions:
    """What the names of a base came to, while the archives stay as they are. `architecture` is Debian's name."""

    base: DebianBase
    architecture: str
    mirrors: Mirrors
    store: Store

    def find(self) -> tuple[DebPackage, ...] | None:
        """The packages, if each archive still has the index that they were resolved by; asks for these, and no more."""
        known = self.store.read_record(_RECORDS, self._key)
        if not isinstance(known, dict) or not isinstance(known.get("releases"), list):
            return None
        transport = Transport(ca_bundle=self.mirrors.ca_bundle)
        try:
            found = [transport.get(url) for url in releases_of(self.base.suite, self.mirrors.debian)]
            if not all(each.status == 200 and is_valid(each.body) for each in found):
                return None
            if sorted(digest_of_bytes(each.body) for each in found) != known["releases"]:
                return None
            return tuple(DebPackage(**deb) for deb in known["debs"])
        except (FetchError, KeyError, TypeError):
            return None  # apt says what is wrong
        finally:
            transport.close()

    def remember(self, debs: tuple[DebPackage, ...], lists: Path) -> None:
        """`lists`: the folder into which apt has put the lists."""
        releases = sorted(digest_of_bytes(path.read_bytes()) for path in lists.glob("*_InRelease"))
        if len(releases) == len(releases_of(self.base.suite, self.mirrors.debian)):
            value = {"releases": releases, "debs": [dataclasses.asdict(deb) for deb in debs]}
            self.store.write_record(_RECORDS, self._key, value)

    @property
    def _key(self) -> Digest:
        archives = sorted(self.mirrors.debian.items())
        return digest_of_json([_RULES, self.base.suite, list(self.base.packages), self.architecture, archives])


def is_valid(release: bytes) -> bool:
    """Whether a signed index may still be believed. Most have no end; those of security updates do."""
    until = _VALID_UNTIL.search(release)
    if until is None:
        return True
    try:
        return parsedate_to_datetime(until[1].decode("ascii")).astimezone(UTC) > datetime.now(UTC)
    except ValueError:
        return False
