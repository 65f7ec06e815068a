"""What a lockfile needs of a machine's NVIDIA driver, compared with what it is.

The sources of needs are the target (`cuda12.4`), the locked CUDA runtime, local versions such as `+cu124`, and
NVIDIA_REQUIRE_CUDA of the base image (NVIDIA container runtime, "Constraints").
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from klock.errors import EngineError
from klock.gpu.driver import Driver
from klock.lockfile.model import TargetLock
from klock.values import dataclass

__all__ = ["Need", "cuda_of", "needs_of", "refuse_machine", "unmet"]

MINIMUM_DRIVERS: Final[Mapping[int, str]] = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
"""The oldest Linux driver for each major version of CUDA, whatever the minor one: NVIDIA, "CUDA Compatibility", the
table of minor version compatibility."""

_ACCELERATOR: Final = re.compile(r"cuda([0-9]{1,3})\.([0-9]{1,3})")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_LOCAL: Final = re.compile(r"\+.*?\bcu(\d{2})(\d)\b")
_RUNTIME: Final = re.compile(r"nvidia-cuda-runtime(-cu\d+)?")
_TERM: Final = re.compile(r"(\w+)\s*(>=|<=|!=|=|<|>)\s*(\S+)")
_OPERATORS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """`cuda` is a version of CUDA's runtime, or None; then `expression` is one of NVIDIA_REQUIRE_CUDA's grammar."""

    source: str
    cuda: tuple[int, int] | None = None
    expression: str = ""

    def __str__(self) -> str:
        if self.cuda is None:
            return f"{self.source}: {self.expression}"
        minimum = MINIMUM_DRIVERS.get(self.cuda[0])
        driver = f", so driver {minimum} or newer" if minimum else ""
        return f"{self.source}: CUDA {self.cuda[0]}.{self.cuda[1]}{driver}"


def cuda_of(accelerator: str) -> tuple[int, int] | None:
    """The CUDA version of a target's accelerator; None for `cpu`."""
    found = _ACCELERATOR.fullmatch(accelerator)
    return (int(found[1]), int(found[2])) if found else None


def needs_of(lock: TargetLock) -> tuple[Need, ...]:
    """What `lock` needs of the driver; nothing for a CPU target."""
    return tuple(_needs_of(lock)) if cuda_of(lock.target.accelerator) else ()


def _needs_of(lock: TargetLock) -> Iterator[Need]:
    cuda = cuda_of(lock.target.accelerator)
    assert cuda is not None
    yield Need(source=f"the target {lock.target}", cuda=cuda)
    for package in lock.packages:
        if _RUNTIME.fullmatch(package.name):
            yield Need(source=package.pin, cuda=_pair(package.version))
        elif found := _LOCAL.search(package.version):
            yield Need(source=package.pin, cuda=(int(found[1]), int(found[2])))
    variables = dict(lock.base.environment)
    disabled = lock.environment.get("NVIDIA_DISABLE_REQUIRE", "")
    if disabled.lower() in ("1", "true", "yes", "on"):
        return
    for name in sorted(variables):
        if name.startswith("NVIDIA_REQUIRE_") and variables[name].strip():
            yield Need(source=f"{name} of the base image", expression=variables[name].strip())


def unmet(needs: tuple[Need, ...], driver: Driver | None) -> list[Need]:
    """The needs that `driver` does not meet. Without a driver or a GPU no need is met."""
    if driver is None or not driver.gpus:
        return list(needs)
    return [need for need in needs if not _is_met(need, driver)]


def refuse_machine(lock: TargetLock, driver: Driver | None) -> None:
    """Raises EngineError, with what is required and what was found, when this machine cannot run what is locked."""
    missing = unmet(needs_of(lock), driver)
    if not missing:
        return
    lines = "\n".join(f"  required by {need}" for need in missing)
    found = str(driver) if driver is not None else "no NVIDIA driver"
    raise EngineError(
        f"this machine cannot run what is locked for {lock.target}:\n{lines}\n  found: {found}",
        hint="choose another target with --target, update the driver, or make the environment for another machine: "
        "--gpus none",
    )


def _is_met(need: Need, driver: Driver) -> bool:
    if need.cuda is None:
        # Words are alternatives, commas join what must hold together.
        return any(_holds(alternative, driver) for alternative in need.expression.split())
    minimum = MINIMUM_DRIVERS.get(need.cuda[0])
    if minimum is None:
        return driver.cuda >= need.cuda
    return _numbers(driver.version) >= _numbers(minimum)


def _holds(alternative: str, driver: Driver) -> bool:
    # The brand and architecture of one GPU must go together.
    return any(
        all(_term_holds(term, driver, gpu_number) for term in alternative.split(",") if term)
        for gpu_number in range(len(driver.gpus))
    )


def _term_holds(term: str, driver: Driver, gpu_number: int) -> bool:
    found = _TERM.fullmatch(term)
    if found is None:
        return False
    name, sign, wanted = found.groups()
    gpu = driver.gpus[gpu_number]
    compare = _OPERATORS[sign]
    match name:
        case "brand":
            return compare(gpu.brand, wanted.lower())
        case "driver":
            # `driver=470` means any 470.x: only as many numbers count as are given.
            count = len(_numbers(wanted))
            return compare(_numbers(driver.version)[:count], _numbers(wanted))
        case "cuda":
            return compare(driver.cuda, _pair(wanted))
        case "arch":
            return compare(gpu.capability, _pair(wanted))
    return False


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if _NUMBER.fullmatch(part))


def _pair(version: str) -> tuple[int, int]:
    numbers = (*_numbers(version), 0, 0)
    return numbers[0], numbers[1]
