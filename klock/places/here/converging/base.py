"""Whether a container was started from the locked base, as far as one can tell from inside."""

from __future__ import annotations

from pathlib import Path

from klock.debian.dpkg_status import STATUS_FILE, installed_packages
from klock.digests import Digest, digest_of_stream
from klock.errors import EngineError
from klock.lockfile.model import DebianLock, TargetLock
from klock.steps import kind_of
from klock.words import listed

__all__ = ["compare_base"]


def compare_base(lock: TargetLock) -> None:
    """Raises EngineError when the container was plainly started from another base than the locked one.

    A container cannot be asked for the digest of its image. What is compared: the packages of a Debian base, and the
    Python that pip steps install into, where it came with the base.
    """
    found: list[str] = []
    if isinstance(lock.base, DebianLock):
        installed = _debian_packages()
        wrong = [deb for deb in lock.base.debs if installed.get(deb.name) != deb.version]
        found += [f"{d.name} is {installed.get(d.name, 'missing')}, locked is {d.version}" for d in wrong]
    kinds = [kind_of(step) for step in lock.steps]
    first_pip = next((n for n, kind in enumerate(kinds) if kind.asks_python), None)
    with_base = first_pip is not None and not any(kind.runs_commands for kind in kinds[:first_pip])
    if lock.interpreter is not None and with_base:
        path = Path(lock.interpreter.path)
        if not path.is_file():
            found.append(f"there is no {path}")
        elif (digest := _digest(path)).removeprefix("sha256:") != lock.interpreter.sha256.removeprefix("sha256:"):
            found.append(f"{path} is {digest}, locked is Python {lock.interpreter.version}, {lock.interpreter.sha256}")
    if found:
        raise EngineError(
            "this container was not started from the locked base:" + listed(found),
            hint="start a container from the locked base, or run `klock lock` with this one's base in the image",
        )


def _digest(path: Path) -> Digest:
    with open(path, "rb") as file:
        return digest_of_stream(file)


def _debian_packages() -> dict[str, str]:
    try:
        status = Path(STATUS_FILE).read_bytes()
    except FileNotFoundError:
        return {}
    return {package.name: package.version for package in installed_packages(status)}
