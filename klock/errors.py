"""Every error klock raises on purpose, as one tree.

A child is named by who can fix it. The command line prints `error: message`, then `hint: hint`, and exits with
status 2. A *finding* (something `klock check` reports) is not an error; see `klock.findings`.
"""

from __future__ import annotations

import errno

__all__ = [
    "CredentialError",
    "EngineError",
    "FetchError",
    "HashMismatch",
    "ImageError",
    "Interrupted",
    "KlockError",
    "LockfileError",
    "OutOfTime",
    "PolicyError",
    "RequirementError",
    "ResolutionError",
    "StaleLockError",
    "StepFailed",
    "StoreError",
    "way_to_write",
]


class KlockError(Exception):
    """Something a person can fix: `message` says what and where, `hint` says what to do next."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ImageError(KlockError, ValueError):
    """The image definition is wrong: fix `kimage.py`. A ValueError too, as users of the upstream builder expect."""


class CredentialError(ImageError):
    """A credential is written out where it would be locked. `variable` is the name of one that could hold it."""

    def __init__(self, message: str, *, hint: str | None = None, variable: str = "") -> None:
        super().__init__(message, hint=hint)
        self.variable = variable


class TriggersFound(ImageError):
    """A base image has other instructions for those who build on it (ONBUILD) than the image was read with."""

    def __init__(self, base: str, triggers: tuple[str, ...]) -> None:
        super().__init__(f"{base} has these ONBUILD instructions: {'; '.join(triggers) or 'none'}")
        self.base = base
        self.triggers = triggers

    def __reduce__(self) -> tuple[type[TriggersFound], tuple[str, tuple[str, ...]]]:
        return type(self), (self.base, self.triggers)


class RequirementError(ImageError):
    """A requirement line or requirements file cannot be read."""


class ResolutionError(KlockError):
    """The requirements are well formed but cannot all be met."""


class LockfileError(KlockError):
    """The lockfile cannot be read or is not what klock wrote: restore it or lock again."""


class PolicyError(KlockError):
    """What would be locked is not what the project's policy allows: change the image, or the policy."""


class StaleLockError(KlockError):
    """Image and lockfile disagree: lock again."""


class FetchError(KlockError):
    """Upstream (a registry, an index, a mirror) did not give what was asked for."""


class HashMismatch(FetchError):
    """Bytes arrived that are not the locked ones; they were thrown away."""


class OutOfTime(FetchError):
    """The time that there was for asking is over; nobody was asked."""


class StepFailed(KlockError):
    """A step of the image exited with a status other than 0, or made something other than the locked layer."""


class EngineError(KlockError):
    """This machine cannot run the workshop or a place: a missing program, no user namespaces, no space."""


class StoreError(KlockError):
    """The local store cannot be read or written."""


class Interrupted(KeyboardInterrupt):
    """A Ctrl-C that leaves more behind than nothing; `message` says in what state."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def way_to_write(error: OSError) -> str:
    """A hint for a file of the user's that klock cannot write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space on its disk, then run the command again"
    return "check that its folder is there and that you may write to it, then run the command again"
