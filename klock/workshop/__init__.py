"""The workshop makes bases and layers, and is the only room that starts foreign programs.

protocol    what others may ask of it
sandbox     bases, layers and workspaces in the store, by overlayfs and bubblewrap, without a daemon and without root
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from klock.workshop.sandbox import SandboxWorkshop

__all__ = ["SandboxWorkshop"]


def __getattr__(name: str) -> object:
    """The workshop is imported when it is asked for (PEP 562): the modules beside it may be all that is needed."""
    if name == "SandboxWorkshop":
        from klock.workshop.sandbox import SandboxWorkshop

        return SandboxWorkshop
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
