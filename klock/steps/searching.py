"""Byte strings in what a step is about to make a layer of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from klock.layers.normalisation import is_left_out, matcher
from klock.steps import kind_of
from klock.steps.at import StepAt
from klock.steps.searchable import Searchable

__all__ = ["paths_in_layer_with"]


def paths_in_layer_with(values: Sequence[bytes], at: StepAt[Any], layer: Searchable) -> list[str]:
    """The absolute paths that hold one of `values` and become part of the step's layer, sorted."""
    kind = kind_of(at.step)
    is_unwanted, is_kept = matcher(kind.leave_out(at.step)), matcher(kind.keep(at))
    found = (path.lstrip("/") for path in (layer.find(values) if values else ()))
    return [f"/{path}" for path in found if (is_kept(path) or not is_left_out(path)) and not is_unwanted(path)]
