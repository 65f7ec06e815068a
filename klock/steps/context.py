"""What locking and replaying need around them, in one value: the image's folder, store, workshop, ways out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from klock.bases.mirrors import Mirrors
from klock.progress import Progress
from klock.store import Store
from klock.targets import Target
from klock.workshop.protocol import Workshop

__all__ = ["Context"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """`root` is the folder of the image file, `environ` the process environment (for secrets). By a step's position:
    `locations` has the builder call, for messages, and `sources` the host file or folder that a file step copies.
    `local_hosts` are names that shell steps may reach although they lead to this machine. `over_locked_base` is False
    where steps are done over something that nobody has compared with the locked base in full."""

    root: Path
    mirrors: Mirrors
    index_url: str | None = None
    store: Store
    workshop: Workshop
    progress: Progress
    environ: Mapping[str, str]
    offline: bool = False
    targets: tuple[Target, ...] = ()
    pytorch_indexes: Mapping[str, str] = field(default_factory=dict)
    over_locked_base: bool = True
    local_hosts: tuple[str, ...] = ()
    locations: tuple[str | None, ...] = ()
    base_location: str | None = None
    sources: Mapping[int, Path] = field(default_factory=dict)

    def pytorch_index(self, target: Target) -> str | None:
        """Where PyTorch's packages for `target` are; None for the default index."""
        from klock.packages.pytorch import index_for

        configured = self.pytorch_indexes
        return index_for(target, self.targets, configured=configured, default_index=self.index_url)

    def where(self, position: int) -> str:
        """` (kimage.py:7)` for the step at `position` (from 0), or nothing when the builder call is not known."""
        location = self.locations[position] if position < len(self.locations) else None
        return f" ({location})" if location else ""
