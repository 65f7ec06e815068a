"""Imports before chroot: in its new root, a process cannot find Python's modules."""

from __future__ import annotations

from klock.errors import EngineError

__all__ = ["preload"]


def preload() -> None:
    """Imports what `unpack` may need, before the process changes its root and can no longer find Python's modules."""
    import contextlib
    import encodings.idna
    import tarfile

    assert encodings.idna and tarfile
    with contextlib.suppress(ImportError):
        import zstandard

        assert zstandard
    # Fills the caches behind the first warning or error text.
    EngineError("")
