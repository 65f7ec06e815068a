"""`klock init`: begin an image."""

from __future__ import annotations

from pathlib import Path

import click

from klock.errors import KlockError, way_to_write
from klock.printing import say

__all__ = ["init"]


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
def init(folder: Path) -> int:
    """Write a first kimage.py into FOLDER, from what it has."""
    from klock.image.beginning import begin_image

    file = folder / "kimage.py"
    if file.exists():
        raise _exists(file)
    first = begin_image(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(file, "x", encoding="utf-8") as stream:
            stream.write(first.text)
    except FileExistsError as error:
        raise _exists(file) from error
    except OSError as error:
        raise KlockError(f"cannot write {file}: {error.strerror or error}", hint=way_to_write(error)) from error
    source = f" from {first.source}" if first.source else ""
    where = "" if folder == Path() else f" {file}"
    say(f"wrote {file}{source}; next: klock lock{where}")
    return 0


def _exists(file: Path) -> KlockError:
    return KlockError(f"{file} exists already", hint="edit it, then run `klock lock`")
