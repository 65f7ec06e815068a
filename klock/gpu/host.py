"""The GPUs of a machine without a CDI specification: NVIDIA's device nodes and driver libraries, found by looking."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from klock.errors import EngineError
from klock.gpu.edits import ContainerEdits, DeviceMount, DeviceNode

__all__ = ["edits_of_host"]

_CONTROL: Final = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
_GPU: Final = re.compile(r"nvidia(\d+)")
_LIBRARIES: Final = re.compile(
    r"lib(cuda|cudadebugger|nvidia-ml|nvidia-ptxjitcompiler|nvidia-nvvm|nvidia-gpucomp|nvidia-cfg|nvidia-opencl"
    r"|nvidia-allocator|nvcuvid|nvidia-encode|nvoptix)\.so(\.\d+)*"
)
"""The user-space driver for compute; it must be of the kernel driver's version, so it comes from the host."""
_TARGET: Final = "/usr/local/nvidia/lib64"
"""Where NVIDIA's images look for the driver's libraries besides the system's folders."""
_PROGRAMS: Final = ("nvidia-smi",)


def edits_of_host(count: int | None, *, dev: Path = Path("/dev"), cache: str | None = None) -> ContainerEdits:
    """What a container needs to use `count` of the machine's GPUs, or all for None.

    `cache` is what `ldconfig -p` prints. Raises EngineError when there are fewer GPUs.
    """
    numbers = sorted(int(found[1]) for node in dev.glob("nvidia*") if (found := _GPU.fullmatch(node.name)))
    if not numbers or (count is not None and len(numbers) < count):
        asked = {None: "GPUs are", 1: "1 GPU is"}.get(count, f"{count} GPUs are")
        raise EngineError(
            f"{asked} asked for, but klock finds {len(numbers)} on this machine",
            hint="install NVIDIA's driver; for other devices, write a CDI specification and name them: "
            "--gpus vendor.com/class=name",
        )
    names = [*(f"nvidia{number}" for number in numbers[:count]), *_CONTROL]
    nodes = [dev / name for name in names if (dev / name).exists()]
    nodes += sorted(node for node in (dev / "nvidia-caps").glob("*") if stat.S_ISCHR(node.stat().st_mode))
    mounts = [
        DeviceMount(host_path=str(path), container_path=f"{_TARGET}/{name}", options=("ro", "nosuid", "nodev"))
        for name, path in _libraries(_ldconfig() if cache is None else cache)
    ]
    for name in _PROGRAMS:
        if program := shutil.which(name):
            mounts.append(
                DeviceMount(host_path=program, container_path=f"/usr/bin/{name}", options=("ro", "nosuid", "nodev"))
            )
    return ContainerEdits(
        environment={"LD_LIBRARY_PATH": _TARGET, "NVIDIA_VISIBLE_DEVICES": "void"},
        device_nodes=tuple(DeviceNode(path=f"/dev/{node.relative_to(dev)}", host_path=str(node)) for node in nodes),
        mounts=tuple(mounts),
    )


def _libraries(cache: str) -> Iterator[tuple[str, Path]]:
    """Names and files of the driver's 64-bit libraries; a line is `libcuda.so.1 (libc6,x86-64) => /usr/lib/..."`."""
    seen = set()
    for line in cache.splitlines():
        name, _, rest = line.strip().partition(" ")
        kind, _, path = rest.partition("=>")
        if _LIBRARIES.fullmatch(name) and ("x86-64" in kind or "AArch64" in kind) and name not in seen:
            seen.add(name)
            yield name, Path(path.strip()).resolve()


def _ldconfig() -> str:
    program = shutil.which("ldconfig", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        return ""
    return subprocess.run([program, "-p"], capture_output=True, text=True, check=False).stdout
