"""What the store says of an environment on an engine of containers."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from klock.digests import Digest
from klock.documents import read_json
from klock.values import dataclass

__all__ = ["Note", "Notes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What an environment is made of, so that pruning keeps it, and the id of the image that was made of it.

    The image's own labels say the first too, but whoever changes an image can write labels. `previous` is the image
    that has the environment's name until this one is loaded, when klock made it.
    """

    base: str
    layers: tuple[Digest, ...]
    image: Digest
    previous: Digest | None = None

    @property
    def images(self) -> tuple[Digest, ...]:
        return (self.image,) if self.previous is None else (self.image, self.previous)


@dataclass(frozen=True, slots=True)
class Notes:
    """The note in a folder of the store."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "record.json"

    def read(self) -> Note | None:
        try:
            note = read_json(self.file.read_bytes(), any_text=True)
            return Note(
                base=note["base"], layers=tuple(note["layers"]), image=note["image"], previous=note.get("previous")
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, note: Note) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self.folder / f"record.{os.getpid()}"
        temporary.write_text(json.dumps(asdict(note)), encoding="utf-8")
        temporary.replace(self.file)
