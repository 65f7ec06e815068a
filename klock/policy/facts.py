"""What a policy asks of a file that no lockfile has: when it came to its index, and its licence. Neither changes, so
each is found out once and kept in the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from klock.errors import KlockError
from klock.lockfile.model import LockedPackage, SdistArtifact, VcsArtifact, WheelArtifact
from klock.packages.index_pages import IndexPages
from klock.packages.wheels import licence_in, metadata_text, wheel_of
from klock.policy.licences import licence_said
from klock.values import dataclass

if TYPE_CHECKING:
    from klock.asking import Asker
    from klock.packages.credentials import Credentials
    from klock.store import Store

__all__ = ["Facts"]

_AGES: Final = "policy-uploaded"
_LICENCES: Final = "policy-licence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Without an `asker` only what is known here is told."""

    store: Store
    credentials: Credentials
    asker: Asker | None = None

    def learn(self, packages: Sequence[LockedPackage], *, ages: bool, licences: bool) -> None:
        """Asks for what is not known of `packages`, several at once."""
        if self.asker is None:
            return
        if ages:
            asked = [package for package in packages if self.uploaded(package) is None and package.index is not None]
            pages = IndexPages(credentials=self.credentials, list_folder=lambda _: [], asker=self.asker)
            self._each(asked, lambda package: self._learn_age(package, pages))
        if licences:
            self._each([package for package in packages if self._known(package) is None], self._learn_licence)

    def uploaded(self, package: LockedPackage) -> datetime | None:
        """When the file came to its index, as that says (PEP 700)."""
        artifact = package.artifact
        if isinstance(artifact, VcsArtifact):
            return None
        return _moment(self.store.read_record(_AGES, artifact.sha256))

    def licence(self, package: LockedPackage) -> tuple[bool, str | None]:
        """Whether its metadata was read, and the SPDX expression of the licence that it says, if that can be told."""
        known = self._known(package)
        return known is not None, known[0] if known else None

    def _known(self, package: LockedPackage) -> list[str | None] | None:
        wheel = wheel_of(package)
        known = self.store.read_record(_LICENCES, wheel.sha256)
        if isinstance(known, list) and len(known) == 1 and (known[0] is None or isinstance(known[0], str)):
            return known
        path = self.store.find_blob(f"sha256:{wheel.sha256}")
        if path is None:
            return None
        try:
            return self._keep_licence(wheel, metadata_text(path, wheel.name))
        except KlockError:
            return None

    def _keep_licence(self, wheel: WheelArtifact, metadata: bytes) -> list[str | None]:
        said = licence_said(*licence_in(metadata))
        self.store.write_record(_LICENCES, wheel.sha256, [said])
        return [said]

    def _each(self, packages: Sequence[LockedPackage], learn: Callable[[LockedPackage], None]) -> None:
        assert self.asker is not None
        for found in self.asker.each(learn, packages):
            if isinstance(found, KlockError):
                self.asker.note(found.message)

    def _learn_age(self, package: LockedPackage, pages: IndexPages) -> None:
        from klock.steps.pip.moved import has_page, index_of

        artifact = package.artifact
        if not has_page(package) or not isinstance(artifact, WheelArtifact | SdistArtifact):
            return
        for file in pages.files(index_of(package), package.name) or ():
            if file.name == artifact.name and file.sha256 in (None, artifact.sha256) and _moment(file.uploaded):
                self.store.write_record(_AGES, artifact.sha256, file.uploaded)

    def _learn_licence(self, package: LockedPackage) -> None:
        """Of a wheel that is not here, by its metadata alone (PEP 658), where the index has it beside the wheel."""
        assert self.asker is not None
        wheel = wheel_of(package)
        url = wheel.url
        if not url.startswith(("https://", "http://")):
            return
        answer = self.asker.ask(f"{url}.metadata", self.credentials.headers(url))
        if answer.status == 200:
            self._keep_licence(wheel, answer.body)


def _moment(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
