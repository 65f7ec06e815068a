"""Who klock is to the package indexes that a pip step names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from klock.documents import read_toml
from klock.image.uv_settings import named_indexes
from klock.lockfile.model import PipLock
from klock.packages.credentials import Credentials, netrc_of
from klock.secrets.references import reveal
from klock.steps.at import StepAt
from klock.steps.context import Context

__all__ = ["index_credentials", "index_names"]


def index_credentials(steps: Iterable[StepAt[PipLock]], context: Context) -> Credentials:
    """Those in the steps' variables, lines and requirements files; for any other index netrc is asked."""
    environments, urls = [], []
    names: dict[str, str] = {}
    base: Mapping[str, str] = {}
    for at in steps:
        step = at.step
        base = dict(at.lock.base.environment)
        environments.append(at.variables(context.environ))
        names |= index_names(step, context.root)
        for line in (*step.requirements, *_lines_of_files(step, context.root)):
            urls += [word for word in reveal(line, step.secrets, context.environ).split() if "://" in word]
    return Credentials.collect(
        environments=environments,
        base=base,
        urls=urls,
        names=names,
        host=context.environ,
        netrc=netrc_of(context.environ),
        mirrors=context.index_mirrors,
        ca_bundle=context.mirrors.ca_bundle,
    )


def index_names(step: PipLock, root: Path) -> dict[str, str]:
    """The indexes that have names in uv's settings of the projects that the step takes over."""
    found: dict[str, str] = {}
    for path in (root / file.path for file in step.files if file.path.endswith(("pyproject.toml", "uv.toml"))):
        with suppress(OSError, ValueError):  # who needs the file itself says what is wrong
            found |= named_indexes(read_toml(path.read_text("utf-8")), path.name)
    return found


def _lines_of_files(step: PipLock, root: Path) -> list[str]:
    """The lines of the step's requirements files, whose index URLs may say where credentials are."""
    files = [root / file.path for file in step.files]
    return [line for file in files if file.is_file() for line in file.read_text("utf-8", "replace").splitlines()]
