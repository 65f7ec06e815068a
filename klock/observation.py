"""An observation: what is really in an environment, beside what is locked. Places make it, `klock.drift` judges it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from klock.findings import Finding
from klock.layers.manifest import Manifest
from klock.values import dataclass

__all__ = ["Observation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """`problem` says why there is nothing to compare, and all else is empty then.

    `locked` is what base and layers make together, `layers` are the layers of the steps, `files` is what is there.
    Variables and settings are by name, secrets as references. `findings` is what the place itself has found, and
    `unexplained` what it says when nothing else tells that the environment was changed.
    """

    problem: str | None = None
    locked: Manifest = field(default_factory=Manifest)
    layers: tuple[Manifest, ...] = ()
    files: Manifest = field(default_factory=Manifest)
    locked_variables: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    locked_settings: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    unexplained: Finding | None = None
