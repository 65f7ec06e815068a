"""Jupyter kernels that run in a locked environment (jupyter-client.readthedocs.io, "Making kernels for Jupyter")."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klock.errors import KlockError, way_to_write

if TYPE_CHECKING:
    from klock.lockfile.model import TargetLock

__all__ = ["data_folder", "install_kernel", "kernel_spec"]

_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_MODULE: Final = "ipykernel"
_FOLDER: Final = "/work"


def kernel_spec(lock: TargetLock, *, image: Path, name: str, display_name: str) -> dict[str, object]:
    """The document of a kernel: `klock run` starts it in the sandbox, with the notebook's folder at /work.

    `image` is the image's file, with `:NAME` for an object of another name. Raises KlockError when the environment has
    no ipykernel.
    """
    if lock.interpreter is None or not any(package.name == _MODULE for package in lock.packages):
        raise KlockError(
            f"the environment has no {_MODULE}, which a kernel is made of",
            hint=f"run `klock add {_MODULE}`, or install it in a pip_install and run `klock lock`",
        )
    # The file that says which ports to listen on. The sandbox has the host's loopback.
    connection = "{connection_file}"
    return {
        "argv": [
            *(sys.executable, "-m", "klock", "run", "--quiet", "--engine", "sandbox", "--image", os.fspath(image)),
            *("--mount", f"{connection}:{connection}:ro", "--mount", f".:{_FOLDER}", "--workdir", _FOLDER, "--"),
            *(lock.interpreter.path, "-m", "ipykernel_launcher", "-f", connection),
        ],
        "display_name": display_name,
        "language": "python",
        # A signal would come to klock first; a message goes to the kernel itself.
        "interrupt_mode": "message",
        "metadata": {"klock": {"name": name, "target": str(lock.target)}},
    }


def install_kernel(document: Mapping[str, object], *, name: str, folder: Path) -> Path:
    """Writes the kernel `name` below the data folder `folder` of Jupyter; returns its own folder. Raises KlockError."""
    if _NAME.fullmatch(name) is None:
        raise KlockError(
            f"{name!r} is not a valid kernel name", hint="write letters, digits, dots, dashes and underscores"
        )
    there = folder / "kernels" / name.lower()
    try:
        there.mkdir(parents=True, exist_ok=True)
        (there / "kernel.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise KlockError(f"cannot write to {there}: {error.strerror or error}", hint=way_to_write(error)) from error
    return there


def data_folder(environ: Mapping[str, str], prefix: Path | None = None) -> Path:
    """Where Jupyter looks for a user's kernels, or for those of a Python below `prefix` (jupyter_core, "paths")."""
    if prefix is not None:
        return prefix / "share/jupyter"
    if environ.get("JUPYTER_DATA_DIR"):
        return Path(environ["JUPYTER_DATA_DIR"])
    home = Path(environ.get("HOME") or Path.home())
    return Path(environ.get("XDG_DATA_HOME") or home / ".local/share") / "jupyter"
