"""Names of Python projects in the form in which they are compared (PEP 503).

`packaging.utils.canonicalize_name` gives the same. Importing it takes about 20 ms, as long as klock otherwise needs to
read a lockfile; so what runs at every start uses this one, and everything else uses packaging's.
"""

from __future__ import annotations

from typing import Final

from klock.patterns import regex

__all__ = ["normalised_name"]

_SEPARATORS: Final = regex(r"[-_.]+")


def normalised_name(name: str) -> str:
    """`ruamel-yaml` for `Ruamel.YAML`, `ruamel_yaml` and `ruamel--yaml`."""
    return _SEPARATORS.sub("-", name).lower()
