"""Between the store and a vault: what is there already is passed over, all else is compared with its digest on the way.

Several files at once, as a vault is often a network's folder. All threads have ended when a function returns: the
workshop forks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from enum import Enum
from typing import Final, TypeVar

from klock.errors import FetchError, HashMismatch
from klock.fetching.transport import Unreachable
from klock.lockfile.model import TargetLock
from klock.progress import Progress
from klock.steps.context import Context
from klock.store import Store
from klock.values import dataclass
from klock.vault.inputs import Input, inputs_of, inputs_of_all
from klock.vault.missing import bring_in
from klock.vault.protocol import Count, Vault
from klock.words import counted, in_bytes, listed

__all__ = ["Fault", "Transferred", "find_faults", "pull", "push", "take_all"]

T = TypeVar("T")

_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    """`inputs` are all that the lockfile needs, `new` those that were copied, or would be."""

    inputs: tuple[Input, ...]
    new: tuple[Input, ...]

    def __str__(self) -> str:
        size = in_bytes(sum(item.size for item in self.inputs))
        return f"{counted(len(self.inputs), 'blob')}, {size}, {len(self.new)} new"


def push(
    targets: Sequence[TargetLock], vault: Vault, context: Context, *, verify: bool = False, dry_run: bool = False
) -> Transferred:
    """Makes the vault hold everything that `targets` need. With `verify` what it holds is read and compared.

    Raises FetchError that names what neither the store nor upstream has; the rest is in the vault then.
    """
    inputs = inputs_of_all(targets)
    held = _each(
        lambda item, count: vault.holds(item, verify=verify, count=count), inputs, "read the vault", context.progress
    )
    new = tuple(item for item, is_held in zip(inputs, held, strict=True) if not is_held)
    transferred = Transferred(inputs=inputs, new=new)
    if dry_run:
        return transferred
    if not new:
        vault.finish(inputs)
        return transferred
    vault.remove_partial()
    left: tuple[Input, ...] = new
    for _ in range(2):  # a second time for what turns out to be damaged in the store
        reasons = _bring_in(targets, left, context)
        there = tuple(item for item in left if context.store.find_blob(item.digest) is not None)
        copied = _each(
            lambda item, count: _put(item, vault, context, count), there, f"push {vault.name}", context.progress
        )
        done = {item.digest for item, is_copied in zip(there, copied, strict=True) if is_copied}
        left = tuple(item for item in left if item.digest not in done)
        if not left:
            vault.finish(inputs)
            return transferred
    missing = {item.digest for item in left}
    vault.finish([item for item in inputs if item.digest not in missing])
    raise FetchError(
        f"{counted(len(left), 'blob')} that the lockfile needs cannot be found:{listed(map(_named, left))}"
        + _because(reasons),
        hint="push from the machine that made the lockfile, or run `klock lock`; the other blobs are in the vault",
    )


def pull(
    targets: Sequence[TargetLock],
    vault: Vault,
    store: Store,
    *,
    progress: Progress,
    verify: bool = False,
    dry_run: bool = False,
) -> Transferred:
    """Makes the store hold everything that `targets` need. With `verify` what it holds is read and compared.

    Raises FetchError that names what the vault has not, or not with its bytes; the rest is in the store then.
    """
    inputs = inputs_of_all(targets)
    has = store.verify_blob if verify else store.find_blob
    held = _each(lambda item, _: bool(has(item.digest)), inputs, "read the store", progress)
    new = tuple(item for item, is_held in zip(inputs, held, strict=True) if not is_held)
    if not dry_run:
        faults = _each(lambda item, count: _take(item, vault, store, count), new, f"pull {vault.name}", progress)
        if failed := [fault for fault in faults if fault]:
            raise FetchError(
                f"{counted(len(failed), 'blob')} cannot be taken from {vault.name}:"
                + listed(_named(fault.item) for fault in failed)
                + _because(list(dict.fromkeys(fault.reason for fault in failed if fault.reason))),
                hint="push them from a machine that has them, or run `klock sync` to fetch them upstream; the other "
                "blobs are in the store",
            )
    for item in () if dry_run else inputs:
        if not item.permanent:
            store.keep_blob(item.digest)
    return Transferred(inputs=inputs, new=new)


def take_all(items: Sequence[Input], vault: Vault, store: Store, progress: Progress) -> list[Input]:
    """Those of `items` that the store has afterwards, as the vault has them."""
    faults = _each(lambda item, count: _take(item, vault, store, count), items, f"pull {vault.name}", progress)
    return [item for item, fault in zip(items, faults, strict=True) if fault is None]


class Kind(Enum):
    MISSING = "missing"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An input that a vault lacks, or has with other bytes. `reason` says why it does not give what it has."""

    kind: Kind
    item: Input
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value}: {_named(self.item)}"


def find_faults(targets: Sequence[TargetLock], vault: Vault, *, progress: Progress) -> list[Fault]:
    """What is wrong with the vault for `targets`, after reading all they need of it. Nothing is written."""
    inputs = inputs_of_all(targets)
    faults = _each(lambda item, count: _fault(item, vault, count), inputs, "read the vault", progress)
    return [fault for fault in faults if fault]


def _fault(item: Input, vault: Vault, count: Count) -> Fault | None:
    return None if vault.holds(item, verify=True, count=count) else _fault_of(item, vault)


def _fault_of(item: Input, vault: Vault) -> Fault:
    return Fault(kind=Kind.DAMAGED if vault.has_something(item) else Kind.MISSING, item=item)


def _bring_in(targets: Sequence[TargetLock], items: Sequence[Input], context: Context) -> list[str]:
    wanted = {item.digest for item in items}
    reasons: list[str] = []
    for target in targets:
        theirs = wanted & {item.digest for item in inputs_of(target)}
        for name, stage in target.locks_of_stages.items():
            reasons += bring_in(stage, theirs, context.of_stage(name))
        reasons += bring_in(target, theirs, context)
    return list(dict.fromkeys(reasons))


def _put(item: Input, vault: Vault, context: Context, count: Count) -> bool:
    path = context.store.find_blob(item.digest)
    try:
        if path is not None:
            vault.put(item, path, count=count)
            return True
    except HashMismatch:
        context.store.verify_blob(item.digest)  # removes it
    return False


def _take(item: Input, vault: Vault, store: Store, count: Count) -> Fault | None:
    if not vault.holds(item):
        return _fault(item, vault, count)
    try:
        chunks = vault.read(item)
        store.add_blob(chunks, digest=item.digest, size=item.size, source=item.name, on_progress=count)
    except HashMismatch:
        return Fault(kind=Kind.DAMAGED, item=item)
    except Unreachable:
        raise
    except FetchError as error:
        # A registry may give fewer bytes than it says, or refuse to give them.
        return replace(_fault_of(item, vault), reason=error.message)
    return None


def _each(task: Callable[[Input, Count], T], items: Sequence[Input], name: str, progress: Progress) -> list[T]:
    """The task's results, in order. A task may count bytes as it works; at its end all of its input counts.

    Raises the first failure when the tasks that have begun are done.
    """
    if not items:
        return []
    guard = threading.Lock()

    def work(item: Input) -> T:
        told = 0

        def count(amount: int) -> None:
            nonlocal told
            told += amount
            with guard:
                progress.advance(amount)

        result = task(item, count)
        count(item.size - told)
        return result

    progress.begin(name, total=sum(item.size for item in items))
    with ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="klock-vault") as pool:
        jobs = [pool.submit(work, item) for item in items]
        try:
            results = [job.result() for job in jobs]
        finally:
            for job in jobs:
                job.cancel()
    progress.done(counted(len(items), "blob"))
    return results


def _named(item: Input) -> str:
    return f"{item.name} ({item.digest}, {in_bytes(item.size)})"


def _because(reasons: Sequence[str]) -> str:
    return "".join(f"\nbecause: {reason}" for reason in reasons[:3])
