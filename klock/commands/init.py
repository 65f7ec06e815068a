"""`klock init`: begin an image."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from klock.commands.printing import say
from klock.errors import KlockError

__all__ = ["init"]

_TEMPLATE: Final = '''"""The environment of this project: klock lock, klock sync, klock run -- COMMAND."""

import klock as kt

# Without a registry at hand, begin with Debian's own packages: kt.images.from_debian("bookworm", ["python3"])
image = (
    kt.images.Python312()
    .pip_install(["numpy>=1.24"])
    .set_env_vars({"OMP_NUM_THREADS": "4"})
)
'''


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
def init(folder: Path) -> int:
    """Write a first kimage.py into FOLDER, unless it has one."""
    file = folder / "kimage.py"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(file, "x", encoding="utf-8") as stream:
            stream.write(_TEMPLATE)
    except FileExistsError as error:
        raise KlockError(f"{file} exists already", hint="edit it, then run `klock lock`") from error
    except OSError as error:
        raise KlockError(f"cannot write {file}: {error.strerror or error}") from error
    where = "" if folder == Path() else f" {file}"
    say(f"wrote {file}; next: klock lock{where}")
    return 0
