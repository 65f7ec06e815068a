"""The version of klock, which images and statements name."""

__version__ = "0.1.0"
