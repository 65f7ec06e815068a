"""The workshop makes bases and layers, and is the only room that starts foreign programs.

protocol    what others may ask of it
sandbox     bases, layers and workspaces in the store, by overlayfs and bubblewrap, without a daemon and without root
"""

from klock.workshop.sandbox import SandboxWorkshop

__all__ = ["SandboxWorkshop"]
