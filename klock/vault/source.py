"""A vault as a source for `klock sync`: what the store lacks of a plan comes from there, before upstream is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from klock.digests import Digest
from klock.errors import KlockError
from klock.lockfile.model import TargetLock
from klock.steps.at import StepAt
from klock.vault.inputs import Input, inputs_of_base, inputs_of_step
from klock.vault.protocol import Vault
from klock.vault.transfer import take_all

if TYPE_CHECKING:
    from klock.steps.context import Context, LayerCache

__all__ = ["VaultSource"]


class VaultSource:
    """`klock.steps.context.LayerCache`, which only brings in what steps are made of. `first` is asked before it.

    After a vault that does not answer, nothing more is asked of it.
    """

    def __init__(self, name: str, open_vault: Callable[[], Vault], *, first: LayerCache | None = None) -> None:
        self._name = name
        self._open = open_vault
        self._vault: Vault | None = None
        self._first = first
        self._is_off = False

    def take(self, at: StepAt[Any], key: Digest, context: Context) -> bool:
        if self._first is not None and self._first.take(at, key, context):
            return True
        self._bring(inputs_of_step(at), context)
        return False

    def take_base(self, lock: TargetLock, context: Context) -> None:
        if self._first is not None:
            self._first.take_base(lock, context)
        if not context.workshop.has_base(lock.base.id):
            self._bring(inputs_of_base(lock.base), context)

    def _bring(self, inputs: Iterable[Input], context: Context) -> None:
        wanted = [item for item in inputs if context.store.find_blob(item.digest) is None]
        if self._is_off or context.offline or not wanted:
            return
        try:
            if self._vault is None:
                self._vault = self._open()
            taken = take_all(wanted, self._vault, context.store, context.progress)
        except KlockError as error:
            context.progress.warn(f"nothing is taken from the vault {self._name}: {error.message}")
            self._is_off = True
            return
        for item in taken:
            if not item.permanent:
                context.store.keep_blob(item.digest)
