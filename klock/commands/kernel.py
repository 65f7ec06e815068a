"""`klock kernel`: notebooks in the locked environment."""

from __future__ import annotations

from pathlib import Path

import click

from klock.commands.groups import Group
from klock.commands.options import image_argument, open_project, target_option
from klock.printing import say

__all__ = ["kernel"]


@click.group(cls=Group)
def kernel() -> None:
    """Have Jupyter run notebooks in the locked environment."""


@kernel.command()
@image_argument
@click.option("--name", metavar="NAME", help="What Jupyter calls the kernel. Default: the project's folder.")
@click.option("--display-name", metavar="TEXT", help="What Jupyter shows. Default: Python (NAME, klock).")
@click.option(
    "--prefix",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Install it for the Python below DIR, such as a virtual environment. Default: for your user.",
)
@target_option
def install(
    image: str | None, *, name: str | None, display_name: str | None, prefix: Path | None, target: str | None
) -> int:
    """Install a Jupyter kernel that runs in the environment, in the sandbox. The image must install ipykernel.

    A notebook's own folder is at /work. When a kernel starts, klock syncs the environment, if it does not match.
    """
    import os

    from klock.kernels import data_folder, install_kernel, kernel_spec

    session = open_project(image).session
    locked = session.locked_target(session.read_lockfile(), target)
    loaded = session.loaded
    name = name or "".join(c if c.isalnum() and c.isascii() else "-" for c in loaded.root.name) or "klock"
    file = loaded.file if loaded.name == "image" else loaded.file.with_name(f"{loaded.file.name}:{loaded.name}")
    document = kernel_spec(locked, image=file, name=name, display_name=display_name or f"Python ({name}, klock)")
    there = install_kernel(document, name=name, folder=data_folder(os.environ, prefix))
    say(f"kernel {name} installed: {there}")
    return 0
