"""A target: what an environment is locked for, a platform and an accelerator."""

from __future__ import annotations

import os

from klock.errors import KlockError
from klock.patterns import regex
from klock.values import dataclass

__all__ = ["Target"]

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_ACCELERATOR = regex(r"cpu|cuda[0-9]{1,3}\.[0-9]{1,3}")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Target:
    """`linux/amd64` (the OCI platform) and `cpu` or `cuda12.4`; written `linux/amd64/cpu`."""

    os: str = "linux"
    architecture: str = "amd64"
    accelerator: str = "cpu"

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}/{self.accelerator}"

    @property
    def platform(self) -> str:
        """The OCI platform: `linux/amd64`."""
        return f"{self.os}/{self.architecture}"

    @property
    def machine(self) -> str:
        """The name the kernel and wheel tags use: `x86_64`, `aarch64`."""
        return _MACHINES[self.architecture]

    @classmethod
    def parse(cls, text: str) -> Target:
        """Reads `linux/amd64` or `linux/amd64/cuda12.4`. Raises KlockError."""
        parts = text.split("/")
        if len(parts) in (2, 3) and parts[0] == "linux" and parts[1] in _MACHINES:
            accelerator = parts[2] if len(parts) == 3 else "cpu"
            if _ACCELERATOR.fullmatch(accelerator):
                return cls(architecture=parts[1], accelerator=accelerator)
        raise KlockError(f"unknown target {text!r}", hint="write linux/amd64, linux/arm64 or linux/amd64/cuda12.4")

    @classmethod
    def of_this_machine(cls) -> Target:
        machine = os.uname().machine.lower()
        if machine not in _ARCHITECTURES:
            raise KlockError(f"klock does not support {machine} machines")
        return cls(architecture=_ARCHITECTURES[machine])
