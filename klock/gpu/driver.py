"""What the machine's NVIDIA driver says of itself and its GPUs (NVML), as values that tests can make too."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from klock.errors import EngineError
from klock.extras import missing_extra_hint
from klock.values import dataclass

__all__ = ["Driver", "Gpu", "find_driver"]

_DEVICE: Final = Path("/dev/nvidiactl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """`brand` is written as in NVIDIA_REQUIRE_CUDA (`tesla`, `geforcertx`); `capability` is the compute one, (9, 0)."""

    name: str
    uuid: str
    brand: str
    capability: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """`version` is the driver's (`550.54.15`), `cuda` the newest CUDA version that it knows."""

    version: str
    cuda: tuple[int, int]
    gpus: tuple[Gpu, ...]

    def __str__(self) -> str:
        names = ", ".join(f"{gpu.name} (compute capability {_dotted(gpu.capability)})" for gpu in self.gpus)
        return f"driver {self.version}, CUDA {_dotted(self.cuda)}, {names or 'no GPU'}"


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def find_driver() -> Driver | None:
    """None on a machine without NVIDIA's driver. Raises EngineError when there is one that cannot be asked."""
    try:
        import pynvml
    except ImportError as error:
        if not _DEVICE.exists():
            return None
        raise EngineError(
            "asking this machine's NVIDIA driver needs nvidia-ml-py", hint=missing_extra_hint("gpu")
        ) from error
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return None
    except pynvml.NVMLError as error:
        raise EngineError(
            f"this machine's NVIDIA driver does not answer: {error}", hint="run nvidia-smi to see why"
        ) from error
    try:
        cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        brands = {
            value: name.removeprefix("NVML_BRAND_").replace("_", "").lower()
            for name, value in vars(pynvml).items()
            if name.startswith("NVML_BRAND_")
        }
        gpus = []
        for handle in handles:
            major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
            gpus.append(
                Gpu(
                    name=_text(pynvml.nvmlDeviceGetName(handle)),
                    uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
                    brand=brands.get(pynvml.nvmlDeviceGetBrand(handle), "unknown"),
                    capability=(major, minor),
                )
            )
        return Driver(
            version=_text(pynvml.nvmlSystemGetDriverVersion()),
            cuda=(cuda // 1000, cuda % 1000 // 10),
            gpus=tuple(gpus),
        )
    except pynvml.NVMLError as error:
        raise EngineError(
            f"this machine's NVIDIA driver does not answer: {error}", hint="run nvidia-smi to see why"
        ) from error
    finally:
        pynvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
