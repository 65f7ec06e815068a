"""Which index has PyTorch's packages for an accelerator: one project, one version, a build for each of them.

PyTorch publishes its builds in an index each (`.../whl/cu124`), under local versions (`2.6.0+cu124`). A project that is
locked for CUDA takes them from there, for its `cpu` target too, so that a lock says for every target what it runs on.
Projects without a CUDA target get what the default index has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from klock.packages.request import ScopedRequirement
from klock.packages.roots import name_of
from klock.targets import Target

__all__ = ["INDEX", "index_for", "with_index"]

_PROJECTS: Final = frozenset({"torch", "torchaudio", "torchvision", "torchtext", "torchdata", "torchao", "torchcodec"})
INDEX: Final = "https://download.pytorch.org/whl/"
"""The page of each index is below it."""


def index_for(
    target: Target, targets: Sequence[Target], *, configured: Mapping[str, str], default_index: str | None
) -> str | None:
    """The index for PyTorch's packages on `target`; None for that of all others.

    `targets` are all that the project is locked for, `configured` the setting `pytorch-indexes`. A default index of
    the user's own is asked for everything: it is there because others must not be, or cannot be, reached.
    """
    if target.accelerator in configured:
        return configured[target.accelerator]
    if default_index is not None or all(each.accelerator == "cpu" for each in targets):
        return None
    return INDEX + target.accelerator.replace("cuda", "cu").replace(".", "")


def with_index(requirement: ScopedRequirement, index: str | None) -> ScopedRequirement:
    """The requirement, to be taken from `index` if it is one of PyTorch's packages and its line names no other."""
    options = requirement.options
    names_another = options.index_url is not None or options.only_from is not None or options.no_index
    if index is None or names_another or name_of(requirement) not in _PROJECTS:
        return requirement
    return replace(requirement, options=replace(options, index_url=index))
