"""Where uv is: a package that klock depends on brings it."""

from __future__ import annotations

from pathlib import Path

from klock.errors import EngineError

__all__ = ["uv_program"]


def uv_program() -> Path:
    """The uv of klock's own installation. Raises EngineError."""
    import uv

    try:
        return Path(uv.find_uv_bin()).resolve()
    except FileNotFoundError as error:
        raise EngineError(
            "klock's installation has no uv program",
            hint="install it again in klock's environment: pip install --force-reinstall uv",
        ) from error
