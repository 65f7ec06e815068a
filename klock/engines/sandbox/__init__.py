"""The embedded engine: replays images in overlayfs and bubblewrap, without a daemon and without root."""

from klock.engines.sandbox.engine import SandboxEngine

__all__ = ["SandboxEngine"]
