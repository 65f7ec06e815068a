"""The pushed image as a `kubetorch.Image`: pods start from its digest, and nothing is installed into them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Unpack

from klock.errors import KlockError

if TYPE_CHECKING:
    from klock.api import ImageSource
    from klock.session import Options

__all__ = ["to_kubetorch"]


def to_kubetorch(
    image: ImageSource = None, *, pushed: str, target: str | None = None, **options: Unpack[Options]
) -> Any:
    """A real `kubetorch.Image` of what is locked, by the digest with which `klock push` pushed it to `pushed`.

    `pushed` is `REGISTRY/NAME`, perhaps with a digest; `target` one of the lockfile's. Use it with
    `kubetorch.Compute(freeze=True)`: else a pod installs kubetorch over the locked environment when it starts. The
    image then needs `kubetorch[server]` among its packages. Raises KlockError: for a stale lockfile, a digest of
    another image, one that is not known here, and where kubetorch is not installed.
    """
    from klock.api import Project
    from klock.registry.named import name_by_digest

    try:
        kubetorch: Any = import_module("kubetorch")
    except ImportError as error:
        raise KlockError(
            f"kubetorch cannot be imported: {error}", hint="install it where this program runs: pip install kubetorch"
        ) from error
    project = Project(image, **options)
    session = project.session
    lock = session.read_lockfile()
    project.refuse(lock, frozen=False)
    locked = session.locked_target(lock, target)
    with session.store.in_use():
        name = name_by_digest(pushed, lock, locked, session.context)
    if not any(package.name == "kubetorch" for package in locked.packages):
        session.progress.note(
            'the image has no kubetorch: for Compute(freeze=True) add "kubetorch[server]" to its pip_install'
        )
    loaded = session.loaded.image
    python = loaded.python_path or (locked.interpreter.path if locked.interpreter else None)
    made = kubetorch.Image(name=loaded.name, python_path=python).from_docker(name)
    if loaded.docker_secret is not None:
        made.docker_secret = loaded.docker_secret
    return made
