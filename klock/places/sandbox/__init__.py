"""The place `sandbox`: environments in the store itself, each with a writable layer over the locked ones."""

from klock.places.sandbox.place import SandboxPlace

__all__ = ["SandboxPlace"]
