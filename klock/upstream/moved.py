"""Where upstream no longer says what is locked: the base, files of indexes, .debs, answers to shell steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from klock.digests import Digest, is_digest
from klock.errors import KlockError
from klock.findings import Code, Finding
from klock.lockfile.model import DebianLock, Lockfile, OciLock, TargetLock
from klock.steps import kind_of

if TYPE_CHECKING:
    from klock.asking import Asker
    from klock.steps.context import Context
    from klock.vault import VaultFolder

__all__ = ["Keepers", "moved_findings"]

_LOST = (Code.GONE, Code.OTHER_FILE, Code.MOVED_ANSWER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keepers:
    """Who else has locked bytes: this machine's store, and a vault, if one is named."""

    context: Context
    vault: VaultFolder | None = None

    def of(self, digest: Digest) -> str | None:
        """`this machine's store has it`; None where nobody has."""
        holders = []
        if self.context.store.find_blob(digest) is not None:
            holders.append("this machine's store")
        if self.vault is not None and self.vault.blob_path(digest).is_file():
            holders.append(f"the vault {self.vault.root}")
        return self._said(holders)

    def of_base(self, base: OciLock) -> str | None:
        holders = []
        if self.context.workshop.has_base(base.id):
            holders.append("this machine's store")
        if self.vault is not None and all(self.vault.blob_path(layer.digest).is_file() for layer in base.layers):
            holders.append(f"the vault {self.vault.root}")
        return self._said(holders)

    def _said(self, holders: list[str]) -> str | None:
        if not holders:
            return None
        return f"{' and '.join(holders)} {'has' if len(holders) == 1 else 'have'} it"


def moved_findings(
    lock: Lockfile, context: Context, asker: Asker, keepers: Keepers, *, base_location: str | None = None
) -> list[Finding]:
    """Each once, with its step and location. What could not be asked is in `asker.notes`."""
    found: list[Finding] = []
    for locked in lock.targets:
        found += _of_target(locked, context, asker, keepers, base_location)
        for name, stage in locked.locks_of_stages.items():
            found += _of_target(stage, context.of_stage(name), asker, keepers, None)
    return list(dict.fromkeys(found))


def _of_target(
    lock: TargetLock, context: Context, asker: Asker, keepers: Keepers, base_location: str | None
) -> Iterator[Finding]:
    for finding in _noted(lambda: _of_base(lock, context, asker, keepers), asker):
        yield dataclasses.replace(_with_keeper(finding, keepers), location=base_location)
    for at in context.each(lock):

        def ask() -> Iterator[Finding]:
            return kind_of(at.step).moved(at, context, asker)  # noqa: B023

        for finding in _noted(ask, asker, f"{at.name}: "):
            placed = dataclasses.replace(finding, step=at.position + 1, location=at.location)
            yield _with_keeper(placed, keepers)


def _noted(ask: Callable[[], Iterator[Finding]], asker: Asker, where: str = "") -> list[Finding]:
    """What cannot be asked is told, and stops nothing else."""
    found: list[Finding] = []
    try:
        found.extend(ask())
    except KlockError as error:
        asker.note(f"{where}{error.message}")
    return found


def _of_base(lock: TargetLock, context: Context, asker: Asker, keepers: Keepers) -> Iterator[Finding]:
    base = lock.base
    if isinstance(base, DebianLock):
        from klock.debian.still_there import moved_debs

        yield from moved_debs(base.debs, context.mirrors.debian, asker)
        return
    from klock.bases.newest import look_at_base

    now = look_at_base(base, target=lock.target, root=context.root, mirrors=context.mirrors, asker=asker)
    if now is None:
        return
    if now.has_moved:
        since = f", made {now.created}" if now.created else ""
        before = f", made {now.locked_created}" if now.locked_created else ""
        words = f"{base.reference} leads to {now.digest}{since} now; locked is {now.locked}{before}"
        yield Finding(code=Code.MOVED_BASE, message=words, expected=now.locked, found=now.digest)
    if not now.is_there:
        words = f"{base.reference}: the registry no longer has the locked image {base.manifest.digest}"
        yield Finding(code=Code.GONE, message=words, kept=keepers.of_base(base))


def _with_keeper(finding: Finding, keepers: Keepers) -> Finding:
    if finding.code not in _LOST or finding.expected is None:
        return finding
    digest = finding.expected if is_digest(finding.expected) else f"sha256:{finding.expected}"
    return dataclasses.replace(finding, kept=finding.kept or (keepers.of(digest) if is_digest(digest) else None))
