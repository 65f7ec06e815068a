"""The engine for a container from inside: its own root file system becomes the locked environment."""

from klock.places.here.engine import HereEngine

__all__ = ["HereEngine"]
