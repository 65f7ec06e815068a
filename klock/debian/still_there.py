"""Whether the archives still have the locked .debs: they remove a version when a newer one takes its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from klock.debian.archive import url_of
from klock.errors import FetchError, KlockError
from klock.findings import Code, Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from klock.asking import Asker
    from klock.lockfile.model import DebPackage

__all__ = ["moved_debs"]


def moved_debs(debs: Sequence[DebPackage], archives: Mapping[str, str], asker: Asker) -> Iterator[Finding]:
    """Findings without step and location, of .debs that are gone or have another size. `archives`: see `url_of`."""

    def judge(deb: DebPackage) -> Finding | None:
        url = url_of(deb, archives)
        answer = asker.ask(url, method="HEAD")
        what = f"{deb.name} {deb.version}"
        if answer.status in (404, 410):
            return Finding(code=Code.GONE, message=f"{what} is no longer at {url}", expected=deb.sha256)
        if answer.status != 200:
            raise FetchError(f"{url} answers with status {answer.status}")
        length = answer.headers.get("content-length", "")
        if length.isdecimal() and int(length) != deb.size:
            words = f"{what} has {length} bytes at {url} now, {deb.size} are locked"
            return Finding(code=Code.OTHER_FILE, message=words, expected=deb.sha256)
        return None

    for found in asker.each(judge, debs):
        if isinstance(found, KlockError):
            asker.note(found.message)
        elif found is not None:
            yield found
