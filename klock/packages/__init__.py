"""Python packages: pip steps resolved together through uv, locked with all hashes, installed from those bytes alone.

probe_interpreter -> TargetPython   the environment's own Python: markers, wheel tags, what is installed
Resolving         a Question (all pip steps of an image), answered and locked step by step in a World (an environment)
fetch_packages                      locked artifacts into the store
install_wheels                      wheels into an environment, without network
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from klock.packages.credentials import Credentials
    from klock.packages.fetch import fetch_packages
    from klock.packages.interpreter import KnownPythons, TargetPython, installed_distributions, probe_interpreter
    from klock.packages.question import Question, World
    from klock.packages.request import LocalProjectSource, PipRequest, RequirementOptions, ScopedRequirement
    from klock.packages.resolution import Reconsidered, Resolving

__all__ = [
    "Credentials",
    "KnownPythons",
    "LocalProjectSource",
    "PipRequest",
    "Question",
    "Reconsidered",
    "RequirementOptions",
    "Resolving",
    "ScopedRequirement",
    "TargetPython",
    "World",
    "fetch_packages",
    "installed_distributions",
    "probe_interpreter",
]

_MODULES: Final = {
    "Credentials": "credentials",
    "LocalProjectSource": "request",
    "PipRequest": "request",
    "RequirementOptions": "request",
    "Question": "question",
    "Reconsidered": "resolution",
    "Resolving": "resolution",
    "ScopedRequirement": "request",
    "KnownPythons": "interpreter",
    "TargetPython": "interpreter",
    "World": "question",
    "fetch_packages": "fetch",
    "installed_distributions": "interpreter",
    "probe_interpreter": "interpreter",
}
"""Loaded when asked for (PEP 562): a command that needs no packages starts without them."""


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
