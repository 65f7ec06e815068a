"""What an empty machine takes to get an environment from a registry: klock pull and podman pull of the same image.

    python -m benchmarks.registry_pull FOLDER [ROUNDS]

FOLDER has a kimage.lock that was synced here (`klock sync`), so that everything can be pushed. A registry (Debian's
`docker-registry`) runs on this machine; both sides start with an empty store each round, and take turns. Times are in
seconds: of the wall, and of the CPU in user and system mode. Needs root, podman, runc and docker-registry.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.integration.registry_server import registry

KLOCK = (sys.executable, "-m", "klock")
Measured = tuple[float, float]


def measured(command: list[str], folder: Path, variables: dict[str, str]) -> Measured:
    """Wall and CPU seconds of a command that must succeed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, cwd=folder, env={**os.environ, **variables}, check=True, capture_output=True)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def podman_settings(folder: Path) -> dict[str, str]:
    """A storage of its own, and what podman needs on small machines."""
    folder.mkdir()
    (folder / "containers.conf").write_text(
        '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]\n'
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
    )
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run"\n'
    )
    return {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }


def main() -> None:
    project = Path(sys.argv[1]).absolute()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    found: dict[str, list[Measured]] = {}
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="kb") as made, registry(Path(made)) as server:
        folder, tag = Path(made), f"{server.host}/bench/image:v1"
        push = [*KLOCK, "push", "-q", tag]
        name = subprocess.run(push, cwd=project, check=True, capture_output=True, text=True).stdout.strip()

        def with_klock(place: Path) -> Measured:
            store = {"KLOCK_CACHE_DIR": str(place)}
            pulled = measured([*KLOCK, "pull", "-q", tag], project, store)
            synced = measured([*KLOCK, "sync", "-q", "--frozen", "--offline"], project, store)
            return pulled[0] + synced[0], pulled[1] + synced[1]

        def with_podman(place: Path) -> Measured:
            settings = podman_settings(place)
            return measured(["podman", "pull", "--quiet", "--tls-verify=false", name], project, settings)

        sides: dict[str, Callable[[Path], Measured]] = {"klock pull, sync": with_klock, "podman pull": with_podman}
        # Nothing is removed between: ext4 makes files slowly where others have just gone.
        for number in range(rounds):
            for side, run in (sides if number % 2 else dict(reversed(sides.items()))).items():
                place = folder / f"{number}-{side.partition(' ')[0]}"
                found.setdefault(side, []).append(run(place))
    for side, times in found.items():
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{side:18} {wall:6.2f} s wall {cpu:6.2f} s CPU")
    pairs = [(found["klock pull, sync"][n], found["podman pull"][n]) for n in range(rounds)]
    wall, cpu = (statistics.median(ours[at] / theirs[at] for ours, theirs in pairs) for at in (0, 1))
    print(f"klock / podman, medians of {rounds}: wall {wall:.2f}, CPU {cpu:.2f}; load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
