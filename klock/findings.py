"""A finding: one thing that does not agree, as a value. Reading, judging and printing are three places; this is what
passes between the last two."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Code", "Finding"]


class Code(Enum):
    """`stale`: image and lockfile disagree. `moved`: upstream and the lockfile disagree. `drift`: an environment and
    the lockfile disagree."""

    STALE_IMAGE = "stale-image"
    STALE_BASE = "stale-base"
    STALE_STEP = "stale-step"
    STALE_FILE = "stale-file"
    STALE_TARGET = "stale-target"
    YANKED = "moved-yanked"
    GONE = "moved-gone"
    OTHER_FILE = "moved-file"
    NOT_SYNCED = "drift-not-synced"
    MODIFIED = "drift-modified"
    MISSING = "drift-missing"
    EXTRA = "drift-extra"
    DISTRIBUTION = "drift-distribution"
    VARIABLE = "drift-variable"
    SETTING = "drift-setting"

    @property
    def is_about_files(self) -> bool:
        """Whether files of an environment are not the locked ones."""
        return self in (Code.MODIFIED, Code.MISSING, Code.EXTRA, Code.DISTRIBUTION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`message` is one sentence. `step` counts from 1; `location` is the builder call (`kimage.py:7`); `path` is the
    path concerned, on the host for stale files and in the environment for drift."""

    code: Code
    message: str
    step: int | None = None
    location: str | None = None
    path: str | None = None
    expected: str | None = None
    found: str | None = None

    def __str__(self) -> str:
        """A line for people: where, then what."""
        step = f"step {self.step}" if self.step else ""
        where = f"{step} ({self.location})" if step and self.location else step or self.location or ""
        return f"{where}: {self.message}" if where else self.message

    def to_json(self) -> dict[str, object]:
        """The finding without its empty fields, for `--format json`."""
        fields = {
            "code": self.code.value,
            "message": self.message,
            "step": self.step,
            "location": self.location,
            "path": self.path,
            "expected": self.expected,
            "found": self.found,
        }
        return {key: value for key, value in fields.items() if value is not None}
