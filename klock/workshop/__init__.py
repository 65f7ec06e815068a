"""The embedded engine: replays images in overlayfs and bubblewrap, without a daemon and without root."""

from klock.workshop.sandbox import SandboxWorkshop

__all__ = ["SandboxWorkshop"]
