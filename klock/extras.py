"""klock's optional dependencies, and the hint for whoever lacks one."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["Extra", "missing_extra_hint"]

Extra: TypeAlias = Literal[
    "conda", "containers", "git", "gpu", "kubernetes", "push", "ray", "s3", "sbom", "sign", "zstd"
]
"""The extras of pyproject.toml."""


def missing_extra_hint(extra: Extra) -> str:
    """How to install an extra, whether klock came from an index or from a clone of its repository."""
    return (
        f"install klock's extra {extra!r}: uv pip install 'klock-env[{extra}]', "
        f"or in a clone of klock: uv pip install -e '.[{extra}]'"
    )
