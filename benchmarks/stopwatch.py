"""Takes the time, the CPU time and the peak memory of one command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

__all__ = ["Call", "CallError", "Sample", "measure"]

_PEAK: Final = Path(__file__).with_name("peak.py")
_SHOWN: Final = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A command with its folder; `variables` come on top of this process's, and None takes one away."""

    argv: tuple[str, ...]
    cwd: Path
    variables: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Wall time of the whole command and CPU time (user and system) of all its processes, in seconds; peak memory of
    the largest of them in MiB. A process that nobody waited for, such as a daemon, does not count."""

    seconds: float
    cpu_seconds: float
    peak_mib: float

    def __str__(self) -> str:
        return f"{self.seconds:.3f} s, CPU {self.cpu_seconds:.3f} s, {self.peak_mib:.0f} MiB"


class CallError(Exception):
    """A measured command did not succeed: its figures mean nothing."""


def measure(call: Call) -> Sample:
    """Runs a call to its end. What was written before is on the disk first, so that no call pays for another's bytes.

    Raises CallError with what the command printed.
    """
    environment = dict(os.environ)
    for name, value in call.variables.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    os.sync()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        result, output = Path(folder) / "result", Path(folder) / "output"
        with open(output, "wb") as written:
            subprocess.run(
                [sys.executable, "-I", "-S", str(_PEAK), str(result), *call.argv],
                cwd=call.cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                check=True,
            )
        ended = json.loads(result.read_bytes())
        if ended["status"] != 0:
            said = output.read_text("utf-8", "replace")[-_SHOWN:]
            raise CallError(f"{' '.join(call.argv)}\nexit status {ended['status']}\n{said}")
    return Sample(seconds=ended["seconds"], cpu_seconds=ended["cpu"], peak_mib=ended["peak_kib"] / 1024)
