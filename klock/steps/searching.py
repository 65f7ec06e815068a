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
    is_unwanted = matcher(kind_of(at.step).leave_out(at.step))
    found = layer.find(values) if values else []
    return [path for path in found if not is_left_out(path.lstrip("/")) and not is_unwanted(path.lstrip("/"))]
