"""The engine for a container from inside: its own root file system becomes the locked environment."""

from klock.engines.here.engine import HereEngine

__all__ = ["HereEngine"]
