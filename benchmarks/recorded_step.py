"""What recording and replaying cost: shell steps with the host's network, recorded, and replayed, in turns.

    python benchmarks/recorded_step.py [--runs N] [--work FOLDER]

Each run is a fresh workspace over a Debian base; its time is that of the command, from the start of the recorder to its
report. Needs mmdebstrap and bubblewrap, and the network. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from klock.layers.normalisation import STEP_ENVIRONMENT  # noqa: E402
from klock.recorder import Report, recording, replaying  # noqa: E402
from klock.recorder.process import Recorder  # noqa: E402
from klock.store import Store  # noqa: E402
from klock.workshop import SandboxWorkshop  # noqa: E402
from klock.workshop.protocol import SCRIPT, BaseLayer, Command, Network, Uplink  # noqa: E402

STEPS: Final = {
    "nothing": "true",
    "apt-get update, install vim-tiny": "apt-get update -q && apt-get install -y -q --no-install-recommends vim-tiny",
    "pip install flask": "pip install -q --break-system-packages flask",
    "curl, 200 files": "seq 200 | xargs -P 8 -I N curl -sSf -o N https://pypi.org/simple/six/?N",
}
_PACKAGES: Final = "python3,python3-pip,ca-certificates,curl"
_VARIABLES: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **STEP_ENVIRONMENT}
_TAR: Final = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    seconds: float
    peak_mib: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures what recording and replaying shell steps cost.")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="rounds (default: 5)")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="a folder on a disk with 2 GB")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="klock-", dir=arguments.work))
    try:
        laboratory = Laboratory(folder)
        rows = [_row(name, laboratory.measure(script, rounds=arguments.runs)) for name, script in STEPS.items()]
        laboratory.engine.remove_unused()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    today = datetime.datetime.now(datetime.UTC).date()
    print(f"{today}, {arguments.runs} rounds, medians; load average {os.getloadavg()[1]:.1f}.\n")
    print("| step | plain | recorded | replayed | recorded / plain | replayed / plain | recorder's peak |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    print("\n".join(rows))


class Laboratory:
    """A base in a store of its own."""

    def __init__(self, folder: Path) -> None:
        tar = folder / "base.tar"
        recipe = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={_PACKAGES}"]
        recipe += ["--keyring=/usr/share/keyrings/debian-archive-keyring.gpg"]
        subprocess.run([*recipe, "bookworm", str(tar)], check=True)
        with tar.open("rb") as file:
            self.base = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        self.store = Store(folder / "store")
        self.engine = SandboxWorkshop(self.store)
        self.engine.add_base(self.base, [BaseLayer(path=tar, media_type=_TAR, diff_id=self.base)])

    def measure(self, script: str, *, rounds: int) -> dict[str, list[Sample]]:
        samples: dict[str, list[Sample]] = {"plain": [], "recorded": [], "replayed": []}
        for number in range(rounds + 1):
            plain = self._plain(script)
            recorded, report = self._recorded(script)
            replayed = self._replayed(script, report)
            if number:  # the first round warms up what all share
                for name, sample in zip(samples, (plain, recorded, replayed), strict=True):
                    samples[name].append(sample)
        return samples

    def _plain(self, script: str) -> Sample:
        begin = time.monotonic()
        self._run(script, Network.HOST)
        return Sample(seconds=time.monotonic() - begin)

    def _recorded(self, script: str) -> tuple[Sample, Report]:
        begin = time.monotonic()
        with recording(store=self.store, ports=(), secrets=(), private_urls=()) as recorder:
            return self._with(recorder, script, begin)

    def _replayed(self, script: str, report: Report) -> Sample:
        begin = time.monotonic()
        tape = replaying(
            report.requests,
            unknown_hosts=report.unknown_hosts,
            store=self.store,
            secrets=(),
            private_urls=(),
            offline=True,
        )
        with tape as recorder:
            return self._with(recorder, script, begin)[0]

    def _with(self, recorder: Recorder, script: str, begin: float) -> tuple[Sample, Report]:
        self._run(script, recorder.uplink)
        peak = max(map(_peak, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()), default=0.0)
        report = recorder.finish()
        if report.refused:
            raise SystemExit("refused: " + "; ".join(report.refused))
        return Sample(seconds=time.monotonic() - begin, peak_mib=peak), report

    def _run(self, script: str, network: Network | Uplink) -> None:
        with self.engine.open(self.base, []) as workspace:
            command = Command(
                argv=("/bin/bash", "-e", SCRIPT),
                environment=_VARIABLES,
                working_dir="/srv",
                network=network,
                script=f"{script}\n",
            )
            completed = workspace.run(command)
        if completed.status != 0:
            raise SystemExit(completed.output.decode("utf-8", "replace")[-2000:])


def _peak(process: str) -> float:
    """The peak of a process's resident memory in MiB (proc_pid_status(5))."""
    for line in Path(f"/proc/{process}/status").read_text("utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _row(name: str, samples: dict[str, list[Sample]]) -> str:
    plain, recorded, replayed = (samples[kind] for kind in ("plain", "recorded", "replayed"))
    times = [f"{median(s.seconds for s in each):.2f} s" for each in (plain, recorded, replayed)]
    ratios = [
        f"{median(a.seconds / b.seconds for a, b in zip(each, plain, strict=True)):.2f}"
        for each in (recorded, replayed)
    ]
    peak = max(sample.peak_mib for sample in (*recorded, *replayed))
    return f"| {name} | {' | '.join([*times, *ratios])} | {peak:.0f} MiB |"


if __name__ == "__main__":
    main()
