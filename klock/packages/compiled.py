"""The compiled modules of installed wheels, and the store's archives of them: compiling takes longer than all the rest.

An archive is taken again for the same wheel, under the same Python, over the same layers. It is made by a process that
imports nothing of what is installed, so no package can have a say in another one's bytes; a wheel that brings files of
Python itself could, and with one nothing is kept.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from klock.digests import Digest, digest_of_bytes
from klock.errors import StepFailed
from klock.lockfile.model import WheelArtifact
from klock.packages.archives import BROKEN
from klock.packages.interpreter import python_environment
from klock.packages.uv import WORK
from klock.store import Store
from klock.workshop.protocol import Command, Mount, Workspace

__all__ = ["compile_modules"]

_KIND: Final = "compiled"
_SCRIPT: Final = Path(__file__).with_name("compile_script.py")
_SCRIPT_TARGET: Final = "/run/klock/compile_script.py"
_ARCHIVES: Final = "/run/klock/compiled"
_CHUNK: Final = 1 << 20
# Wheels put their modules in site-packages; these members go to where Python's own files are (the wheel format's
# "data"). Not its programs: uv refuses scripts that are named like a Python.
_OF_PYTHON: Final = re.compile(r"[^/]+\.data/data/lib(?:64)?/(?:python|.*\.so)", re.DOTALL)


def compile_modules(
    wheels: Sequence[tuple[str, WheelArtifact]],
    *,
    python: str,
    workspace: Workspace,
    store: Store,
    variables: Mapping[str, str],
    over: Sequence[Digest] | None,
    work: Path,
) -> None:
    """Compiles the modules of installed wheels, given with their names, or takes what was compiled before.

    `over`: the digests of the base and the layers that the workspace shows; None when nobody can say, and then nothing
    is kept. `work`: an empty folder with room. Raises StepFailed when the environment's Python fails.
    """
    keys = {} if over is None else {name: _key(wheel, python, over) for name, wheel in wheels}
    known = {name: blob for name, key in keys.items() if (blob := _find(key, store)) is not None}
    names, out = work / "names", work / "out"
    names.write_text("".join(f"{name}\n" for name, _ in wheels), encoding="utf-8")
    out.mkdir()
    mounts = (
        Mount(source=_SCRIPT, target=_SCRIPT_TARGET),
        Mount(source=work, target=WORK, read_only=False),
    )
    _run([python, "-s", _SCRIPT_TARGET, "list", f"{WORK}/names", f"{WORK}/out"], mounts, workspace, variables)
    archives = [Mount(source=blob, target=f"{_ARCHIVES}/{name}.zip") for name, blob in known.items()]
    command = [python, "-s", "-S", _SCRIPT_TARGET, "compile", f"{WORK}/out", _ARCHIVES]
    _run(command, (*mounts, *archives), workspace, variables)
    made = {name: key for name, key in keys.items() if (out / f"{name}.zip").exists()}
    if made and not any(_brings_python(store.blob_path(f"sha256:{wheel.sha256}")) for _, wheel in wheels):
        for name, key in made.items():
            digest, _ = store.add_blob(_content(out / f"{name}.zip"), source=f"compiled modules of {name}")
            store.write_record(_KIND, key, digest)


def _run(argv: list[str], mounts: Sequence[Mount], workspace: Workspace, variables: Mapping[str, str]) -> None:
    environment = {**python_environment(variables), "PYTHONHASHSEED": "0"}
    ended = workspace.run(Command(argv=tuple(argv), environment=environment, mounts=tuple(mounts)))
    if ended.status != 0:
        words = ended.output.decode("utf-8", "replace").strip()
        raise StepFailed(f"the installed modules could not be compiled (exit status {ended.status}):\n{words}")


def _key(wheel: WheelArtifact, python: str, over: Sequence[Digest]) -> Digest:
    parts = (wheel.sha256, python, *over, digest_of_bytes(_SCRIPT.read_bytes()))
    return digest_of_bytes("\0".join(parts).encode())


def _find(key: Digest, store: Store) -> Path | None:
    digest = store.read_record(_KIND, key)
    return store.find_blob(digest) if isinstance(digest, str) else None


def _content(path: Path) -> Iterator[bytes]:
    """The bytes of a file that the environment's own programs have left: never those of what a symlink leads to."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _brings_python(wheel: Path) -> bool:
    """Whether a wheel's files may take the place of Python's own; True for one that cannot be read."""
    with suppress(*BROKEN), zipfile.ZipFile(wheel) as archive:
        return any(map(_OF_PYTHON.match, archive.namelist()))
    return True
