"""The place `here`: the container that klock runs in becomes the locked environment, from inside."""

from klock.places.here.place import HerePlace

__all__ = ["HerePlace"]
