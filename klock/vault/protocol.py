"""What a vault must do, wherever it is: hold blobs by their digest, for any number of projects and machines at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from klock.vault.inputs import Input

__all__ = ["Count", "Vault", "uncounted"]

Count: TypeAlias = Callable[[int], None]
"""Is told how many more bytes were read or sent. A negative number says how many must be sent again."""


def uncounted(_: int) -> None:
    """For callers that want no count."""


class Vault(Protocol):
    """Nothing in one is trusted: whoever reads a blob compares its digest. Used from several threads at once."""

    @property
    def name(self) -> str:
        """Where it is, for messages."""

    def check(self) -> None:
        """Raises StoreError when there is no vault to read from, as far as that can be seen."""

    def holds(self, item: Input, *, verify: bool = False, count: Count = uncounted) -> bool:
        """Whether the blob is here with its size, and with its bytes if they are to be read."""

    def has_something(self, item: Input) -> bool:
        """Whether anything has the blob's name here."""

    def read(self, item: Input) -> Iterator[bytes]:
        """The bytes of a blob, not yet verified. Raises StoreError or FetchError."""

    def put(self, item: Input, source: Path, *, count: Count = uncounted) -> None:
        """Copies a file in, in place of what has its name. Raises HashMismatch when it is not the blob."""

    def remove_partial(self) -> None:
        """Removes what writers left behind that were killed, as far as nobody can be writing it still."""

    def finish(self, items: Sequence[Input]) -> None:
        """After all of `items` are here: has whoever keeps the vault not take them for garbage."""
