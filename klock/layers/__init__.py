"""Layers: what a step changed, in canonical form."""

from __future__ import annotations

from typing import Final

__all__ = ["NORMALISATION"]

NORMALISATION: Final = 6
"""The version of the rules in `klock.layers.normalisation`, which lockfiles record. It stands here for those who only
compare it."""
