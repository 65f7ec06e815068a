"""Where upstream no longer says what is locked: the base, files of indexes, .debs, answers to shell steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from klock.digests import Digest, is_digest
from klock.errors import KlockError
from klock.findings import Code, Finding
from klock.lockfile.model import DebianLock, Lockfile, OciLock, TargetLock
from klock.steps import kind_of
from klock.values import dataclass

if TYPE_CHECKING:
    from klock.asking import Asker
    from klock.steps.context import Context
    from klock.vault import Input, Vault

__all__ = ["Keepers", "moved_findings"]

_LOST = (Code.GONE, Code.OTHER_FILE, Code.MOVED_ANSWER)


@dataclass(slots=True, kw_only=True)
class Keepers:
    """Who else has locked bytes: this machine's store, and a vault, if one is named.

    After a vault that cannot be read, nothing more is asked of it.
    """

    context: Context
    vault: Vault | None = None
    inputs: Mapping[Digest, Input] = field(default_factory=dict)
    _is_off: bool = False

    @classmethod
    def of_lock(cls, lock: Lockfile, context: Context, vault: Vault | None = None) -> Keepers:
        """Those who are asked for the inputs of `lock`."""
        from klock.vault import inputs_of_all

        inputs = {item.digest: item for item in inputs_of_all(lock.targets)} if vault is not None else {}
        return cls(context=context, vault=vault, inputs=inputs)

    def of(self, digest: Digest, asker: Asker) -> str | None:
        """`this machine's store has it`; None where nobody has."""
        return self._said(self.context.store.find_blob(digest) is not None, [digest], asker)

    def of_base(self, base: OciLock, asker: Asker) -> str | None:
        layers = [layer.digest for layer in base.layers]
        return self._said(self.context.workshop.has_base(base.id), layers, asker)

    def _said(self, is_in_store: bool, digests: Sequence[Digest], asker: Asker) -> str | None:
        holders = ["this machine's store"] if is_in_store else []
        if self.vault is not None and self._are_in(self.vault, digests, asker):
            holders.append(f"the vault {self.vault.name}")
        if not holders:
            return None
        return f"{' and '.join(holders)} {'has' if len(holders) == 1 else 'have'} it"

    def _are_in(self, vault: Vault, digests: Sequence[Digest], asker: Asker) -> bool:
        wanted = [self.inputs[digest] for digest in digests if digest in self.inputs]
        if self._is_off or len(wanted) < len(digests):
            return False
        try:
            return all(vault.holds(item) for item in wanted)
        except KlockError as error:
            self._is_off = True
            asker.note(f"the vault {vault.name} was not asked: {error.message}")
            return False


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
        yield dataclasses.replace(_with_keeper(finding, keepers, asker), location=base_location)
    for at in context.each(lock):

        def ask() -> Iterator[Finding]:
            return kind_of(at.step).moved(at, context, asker)  # noqa: B023

        for finding in _noted(ask, asker, f"{at.name}: "):
            placed = dataclasses.replace(finding, step=at.position + 1, location=at.location)
            yield _with_keeper(placed, keepers, asker)


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
        yield Finding(code=Code.GONE, message=words, kept=keepers.of_base(base, asker))


def _with_keeper(finding: Finding, keepers: Keepers, asker: Asker) -> Finding:
    if finding.code not in _LOST or finding.expected is None:
        return finding
    digest = finding.expected if is_digest(finding.expected) else f"sha256:{finding.expected}"
    kept = finding.kept or (keepers.of(digest, asker) if is_digest(digest) else None)
    return dataclasses.replace(finding, kept=kept)
