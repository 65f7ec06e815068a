"""A finding: one thing that does not agree, as a value. Reading, judging and printing are three places; this is what
passes between the last two."""

from __future__ import annotations

from enum import Enum

from klock.values import dataclass

__all__ = ["Code", "Finding"]


class Code(Enum):
    """`stale`: image and lockfile disagree. `moved`: upstream and the lockfile disagree. `drift`: an environment and
    the lockfile disagree. `unsafe`: something locked is known to be vulnerable. `policy`: the lockfile has what the
    project's settings do not allow."""

    STALE_IMAGE = "stale-image"
    STALE_BASE = "stale-base"
    STALE_STEP = "stale-step"
    STALE_FILE = "stale-file"
    STALE_TARGET = "stale-target"
    YANKED = "moved-yanked"
    GONE = "moved-gone"
    OTHER_FILE = "moved-file"
    MOVED_BASE = "moved-base"
    MOVED_ANSWER = "moved-answer"
    NOT_SYNCED = "drift-not-synced"
    NOT_RUNNING = "drift-not-running"
    UNREADABLE = "drift-unreadable"
    MODIFIED = "drift-modified"
    MISSING = "drift-missing"
    EXTRA = "drift-extra"
    DISTRIBUTION = "drift-distribution"
    VARIABLE = "drift-variable"
    SETTING = "drift-setting"
    ADVISORY = "unsafe-advisory"
    POLICY_SOURCE = "policy-source"
    POLICY_AGE = "policy-age"
    POLICY_LICENCE = "policy-licence"
    POLICY_SDIST = "policy-sdist"
    POLICY_LAYER = "policy-layer"
    POLICY_SIGNATURE = "policy-signature"

    @property
    def kind(self) -> str:
        """`stale`, `moved`, `drift`, `unsafe` or `policy`."""
        return self.value.partition("-")[0]

    @property
    def title(self) -> str:
        """What is wrong, in a few words."""
        return _TITLES[self]

    @property
    def remedy(self) -> str:
        """What to do about it, in a sentence."""
        return _REMEDIES_OF.get(self, _REMEDIES[self.kind])

    @property
    def is_about_files(self) -> bool:
        """Whether files of an environment are not the locked ones."""
        return self in (Code.MODIFIED, Code.MISSING, Code.EXTRA, Code.DISTRIBUTION)


_TITLES = {
    Code.STALE_IMAGE: "The image is no longer what was locked",
    Code.STALE_BASE: "The base is no longer what was locked",
    Code.STALE_STEP: "A step is no longer what was locked",
    Code.STALE_FILE: "A local file is no longer what was locked",
    Code.STALE_TARGET: "A target is not locked",
    Code.YANKED: "A locked file was yanked",
    Code.GONE: "A locked file is no longer upstream",
    Code.OTHER_FILE: "A locked file has other bytes upstream",
    Code.MOVED_BASE: "The base's tag has moved",
    Code.MOVED_ANSWER: "A server no longer answers as it was locked",
    Code.NOT_SYNCED: "There is no environment to compare",
    Code.NOT_RUNNING: "A pod does not run",
    Code.UNREADABLE: "A pod did not say which files it has",
    Code.MODIFIED: "A file of the environment was changed",
    Code.MISSING: "A file of the environment is missing",
    Code.EXTRA: "The environment has a file that is not locked",
    Code.DISTRIBUTION: "A Python package is not the locked one",
    Code.VARIABLE: "A variable is not the locked one",
    Code.SETTING: "A setting of the environment is not the locked one",
    Code.ADVISORY: "A locked package has a known vulnerability",
    Code.POLICY_SOURCE: "Something comes from where the policy does not allow it",
    Code.POLICY_AGE: "A package is younger than the policy allows",
    Code.POLICY_LICENCE: "The licence of a package is not one that the policy allows",
    Code.POLICY_SDIST: "A package is built from source, which the policy does not allow",
    Code.POLICY_LAYER: "A step keeps its layer, which the policy does not allow",
    Code.POLICY_SIGNATURE: "The lockfile is not signed by a trusted key",
}
_REMEDIES = {
    "stale": "Run `klock lock` and commit the lockfile.",
    "moved": "Run `klock lock --upgrade` to move with it; save the locked bytes with `klock vault push`.",
    "drift": "Run `klock sync`.",
    "unsafe": "Run `klock lock --upgrade-package NAME`, or allow a newer version in the image.",
    "policy": "Change the image and run `klock lock`, or change [tool.klock.policy].",
}
_REMEDIES_OF = {
    Code.NOT_RUNNING: "See `kubectl describe pod NAME`.",
    Code.UNREADABLE: "See `kubectl describe pod NAME`, or compare digests alone: `klock fleet check --image-only`.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`message` is one sentence. `step` counts from 1; `location` is the builder call (`kimage.py:7`); `path` is the
    path concerned, on the host for stale files and in the environment for drift. `kept` says where the locked bytes
    still are, of what upstream has no longer."""

    code: Code
    message: str
    step: int | None = None
    location: str | None = None
    path: str | None = None
    expected: str | None = None
    found: str | None = None
    kept: str | None = None

    def __str__(self) -> str:
        """A line for people: where, then what."""
        step = f"step {self.step}" if self.step else ""
        where = f"{step} ({self.location})" if step and self.location else step or self.location or ""
        message = f"{self.message}; {self.kept}" if self.kept else self.message
        return f"{where}: {message}" if where else message

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
            "kept": self.kept,
        }
        return {key: value for key, value in fields.items() if value is not None}
