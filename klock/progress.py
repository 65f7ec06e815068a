"""How work reports what it is doing. The work knows only this interface; `klock.commands.terminal` draws it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

__all__ = ["QUIET", "Progress", "Quiet"]


class Progress(Protocol):
    """Called from one thread at a time. Texts are whole sentences without a final stop, already free of secrets."""

    def begin(self, task: str, *, total: int | None = None, unit: str = "bytes") -> None:
        """A task starts, such as `step 2/5 run_bash (kimage.py:9)`. `total` is how much there is to do, where that is
        known, in bytes or in what `unit` says, such as `packages`."""

    def advance(self, amount: int) -> None:
        """So much more of the present task is done, in its unit."""

    def output(self, text: bytes) -> None:
        """Something a step's command printed."""

    def done(self, result: str) -> None:
        """The present task ended well; `result` says how, such as `cached` or `12 files`."""

    def stage(self, name: str, how_far: Callable[[], str] | None = None) -> AbstractContextManager[None]:
        """A part of the present task, such as `compile`, for as long as the block runs: for whoever asks where the time
        goes. `how_far` is asked now and then, and says how much of it is done, such as `3 done`."""

    def beside(self, names: Sequence[str]) -> None:
        """What goes on beside the present task from now on; nothing, where there are none."""

    def warn(self, message: str) -> None:
        """Something the user should know that stops nothing."""

    def note(self, message: str) -> None:
        """A choice that klock made for the user, such as the target."""


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


class Quiet:
    """Reports nothing."""

    def begin(self, task: str, *, total: int | None = None, unit: str = "bytes") -> None: ...

    def advance(self, amount: int) -> None: ...

    def output(self, text: bytes) -> None: ...

    def done(self, result: str) -> None: ...

    def stage(self, name: str, how_far: Callable[[], str] | None = None) -> AbstractContextManager[None]:
        return _Nothing()

    def beside(self, names: Sequence[str]) -> None: ...

    def warn(self, message: str) -> None: ...

    def note(self, message: str) -> None: ...


QUIET: Progress = Quiet()
"""For who has nobody to report to."""
