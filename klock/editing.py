"""`klock add` and `klock remove`: edits the image file where that is safe, and locks; else nothing is changed."""

from __future__ import annotations

import codecs
import os
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, TypeAlias, Unpack

from klock.api import ImageSource, Project
from klock.digests import digest_of_bytes, hex_of
from klock.errors import ImageError, KlockError, RequirementError, way_to_write
from klock.image.arguments import texts
from klock.image.builder import Image
from klock.image.editing import add_requirement, remove_requirement
from klock.image.loading import LoadedImage
from klock.image.steps import PipInstall
from klock.outcomes import Locked
from klock.session import Options

__all__ = ["add", "remove"]

Edit: TypeAlias = Callable[[str, str, str], str]
"""Changes the text of an image file: the text, the name of the image in it, and what to add or to remove."""

_FILE: Final = re.compile(r"(?:-r|--requirement)[ =]?\s*(\S+)")


def add(requirements: str | Iterable[str], image: ImageSource = None, **options: Unpack[Options]) -> Locked:
    """Adds requirements (PEP 508) to the image's last `pip_install`, or changes those of the same projects; then locks.

    Raises KlockError when the file cannot be edited safely, saying which line to write, and when the image that it
    makes cannot be locked: the file is then as it was.
    """
    return _edited(texts("add", "requirements", requirements), add_requirement, image, options)


def remove(projects: str | Iterable[str], image: ImageSource = None, **options: Unpack[Options]) -> Locked:
    """Removes the requirements of projects from the image; then locks. Raises KlockError as `add` does."""
    return _edited(texts("remove", "projects", projects), remove_requirement, image, options)


def _edited(words: Sequence[str], edit: Edit, image: ImageSource, options: Options) -> Locked:
    session = Project(image, **options).session
    loaded, file = session.loaded, session.loaded.file.resolve()
    if loaded.is_dockerfile:
        line = f"RUN pip install {shlex.join(words)}"
        what = f"write `{line}` into it" if edit is add_requirement else "change the line that installs it"
        raise ImageError(
            f"{loaded.label} is a Dockerfile, which klock does not edit", hint=f"{what}, then run `klock lock`"
        )
    if not file.is_file():
        raise ImageError("this image was made in Python, not in a file", hint="change it there, then lock")
    # One edit at a time: else a later one could undo an earlier one.
    with session.store.lock(f"edit-{hex_of(digest_of_bytes(os.fsencode(file)))}"):
        return _edited_alone(file, loaded, words, edit, lambda: Project(image, **options).lock())


def _edited_alone(
    file: Path,
    loaded: LoadedImage,
    words: Sequence[str],
    edit: Edit,
    lock: Callable[[], Locked],
) -> Locked:
    before = file.read_bytes()
    mark = codecs.BOM_UTF8 if before.startswith(codecs.BOM_UTF8) else b""
    try:
        text = before.removeprefix(mark).decode("utf-8")
    except UnicodeDecodeError as error:
        hint = "edit it yourself, then run `klock lock`"
        raise KlockError(f"{loaded.label} cannot be edited: {error}", hint=hint) from error
    try:
        for word in words:
            text = edit(text, loaded.name, word)
    except KlockError as error:
        if not isinstance(error, RequirementError) and (hint := _of_other_files(loaded.image, words, edit)):
            error.hint = f"{hint}; then run `klock lock`"
        raise
    after = mark + text.encode("utf-8")
    try:
        _write(file, after)
        return lock()
    except BaseException:
        if file.read_bytes() == after:  # else somebody else has edited it since
            _write(file, before)
        raise


def _of_other_files(image: Image, words: Sequence[str], edit: Edit) -> str:
    """What to do if the image takes its packages from a file; empty if it takes them from none."""
    named = [
        match[1]
        for step in image.steps
        if isinstance(step, PipInstall)
        for r in step.requirements
        if (match := _FILE.match(r))
    ]
    if not named:
        return ""
    file, verb = named[-1], "add" if edit is add_requirement else "remove"
    if Path(file).name == "uv.lock":
        return f"the image takes its packages from {file}: uv {verb} {shlex.join(words)}"
    return f"the image takes its packages from {file}: {verb} {', '.join(words)} there"


def _write(file: Path, content: bytes) -> None:
    """All or nothing, and with the file's own mode."""
    temporary = file.with_name(f".{file.name}.{os.urandom(6).hex()}")
    try:
        temporary.write_bytes(content)
        temporary.chmod(file.stat().st_mode & 0o7777)
        temporary.replace(file)
    except OSError as error:
        raise KlockError(f"cannot write {file}: {error.strerror or error}", hint=way_to_write(error)) from error
    finally:
        temporary.unlink(missing_ok=True)
