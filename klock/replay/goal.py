"""What an environment is to be: one target of a lockfile, and the name it has here."""

from __future__ import annotations

from pathlib import Path

from klock.digests import Digest
from klock.lockfile.model import TargetLock
from klock.values import dataclass

__all__ = ["Goal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """`name` is the environment's, `cache_keys` are those of the steps of `lock`, `lock_digest` is the
    lockfile's. `project` is the folder of the image file."""

    name: str
    lock: TargetLock
    cache_keys: tuple[Digest | None, ...]
    lock_digest: Digest
    project: Path

    @property
    def record(self) -> dict[str, object]:
        """What an environment keeps of the lockfile that it was synced from."""
        return {
            "fingerprint": self.lock.fingerprint,
            "lockfile": self.lock_digest,
            "target": str(self.lock.target),
            "variables": self.lock.environment,
        }
