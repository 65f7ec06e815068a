"""Which of the locked targets this machine is for, and whether it can run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from klock.gpu.driver import Driver, find_driver
from klock.gpu.edits import Devices
from klock.gpu.request import devices_for, refuse_missing
from klock.gpu.requirements import cuda_of, needs_of, refuse_machine, unmet
from klock.lockfile.model import TargetLock
from klock.targets import Target

__all__ = ["choose", "devices_of", "refuse_if_unable"]


def choose(
    locks: Sequence[TargetLock], *, default: Target, driver: Callable[[], Driver | None] = find_driver
) -> tuple[Target, str]:
    """The newest CUDA target of `locks` that the machine can run, or `default`; and why, in a few words."""
    found = driver()
    cuda = [lock for lock in locks if cuda_of(lock.target.accelerator)]
    able = [lock.target for lock in cuda if not unmet(needs_of(lock), found)]
    if able:
        return max(able, key=lambda target: cuda_of(target.accelerator) or (0, 0)), f"this machine has {found}"
    if found is None or not found.gpus:
        return default, "this machine has no NVIDIA GPU"
    return default, f"{found} meets the needs of no other target"


def refuse_if_unable(lock: TargetLock, gpus: str | None) -> None:
    """Raises EngineError when `lock` is for GPUs that this machine has not, or its driver does not know their CUDA.

    With `none` the environment is for another machine, and nothing is asked.
    """
    if gpus in ("none", "0") or not needs_of(lock):
        return
    refuse_machine(lock, find_driver())


def devices_of(lock: TargetLock, gpus: str | None) -> Devices | None:
    """The devices a command sees: those asked for, and without a word all GPUs for a CUDA target, none for others."""
    if gpus is None:
        gpus = "all" if needs_of(lock) else "none"
    devices = devices_for(gpus)
    if devices is not None:
        refuse_missing(devices.edits)
    return devices
