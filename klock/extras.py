"""klock's optional dependencies, and the hint for whoever lacks one."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["Extra", "missing_extra_hint"]

Extra: TypeAlias = Literal[
    "conda", "containers", "git", "gpu", "kubernetes", "push", "ray", "s3", "sbom", "sign", "zstd"
]
"""The extras of pyproject.toml."""


def missing_extra_hint(extra: Extra) -> str:
    """How to install an extra from a clone, for klock as a tool of its own and in a virtual environment."""
    return (
        f"install klock's extra {extra!r} beside those you use, in your clone of klock: "
        f"uv tool install '.[{extra}]', or in a virtual environment: uv pip install '.[{extra}]'"
    )
