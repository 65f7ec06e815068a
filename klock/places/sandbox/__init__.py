"""The place `sandbox`: environments in the store itself, each with a writable layer over the locked ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from klock.places.sandbox.place import SandboxPlace

__all__ = ["SandboxPlace"]


def __getattr__(name: str) -> object:
    """The place is imported when it is asked for (PEP 562): the modules beside it may be all that is needed."""
    if name == "SandboxPlace":
        from klock.places.sandbox.place import SandboxPlace

        return SandboxPlace
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
