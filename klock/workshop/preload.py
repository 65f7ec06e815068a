"""Before a process gives up its root, it imports what it will need: afterwards Python finds nothing of its own."""

from __future__ import annotations

from klock.errors import EngineError

__all__ = ["preload"]


def preload() -> None:
    """Imports what `unpack` may need; afterwards the root is another one, in which Python finds nothing of its own."""
    import contextlib
    import encodings.idna
    import tarfile

    assert encodings.idna and tarfile
    with contextlib.suppress(ImportError):
        import zstandard

        assert zstandard
    # Fills the caches behind the first warning or error text.
    EngineError("")
