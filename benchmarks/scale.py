"""What a registry and its machines do when many start the same environment at once, from empty stores.

    python -m benchmarks.scale [--machines N ...] [--rounds N] [--output FILE.md] [--work FOLDER]

A registry (Debian's `docker-registry`) runs on this machine. It has the environment as klock's cache and as an image.
Then N machines, which are N empty stores here, each run a first command in it at the same time: `klock run`, which
syncs from the cache, and `podman run` of the pushed image. Whatever is not the registry cannot be reached meanwhile.
The registry's log says what it was asked for and how many bytes it gave. Needs root, podman, runc, mmdebstrap and
docker-registry, and an index of Python packages while the environment is locked.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from benchmarks.base_image import registry_with_base  # noqa: E402
from benchmarks.contenders import remove  # noqa: E402
from benchmarks.registry_pull import podman_settings  # noqa: E402
from tests.integration.registry_server import Registry  # noqa: E402

KLOCK: Final = (sys.executable, "-m", "klock")
IMAGE: Final = """\
import klock as kt

image = (
    kt.images.Python312()
    .pip_install(["numpy", "pandas", "requests", "pydantic"])
    .run_bash("seq 200000 > /srv/numbers")
    .set_env_vars({"PLACE": "many"})
)
"""
TASK: Final = ("python3", "-c", "import pandas")
NOWHERE: Final = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}
_REST: Final = 60
"""Seconds after which ext4 no longer passes over what was removed."""
_ANSWER: Final = re.compile(r'"(GET|HEAD) (\S+) HTTP/1\.1" (\d+) (\d+)')


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start of `machines` at once: seconds until the last task had ended, CPU seconds of all of them together, and
    what the registry was asked for and gave, in all."""

    machines: int
    seconds: float
    cpu_seconds: float
    requests: int
    received: int


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures many machines that start one environment at once.")
    parser.add_argument("--machines", type=int, nargs="+", default=[1, 2, 5, 10], metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="(default: 3)")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="where to write the result, besides stdout")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="a folder on a disk with room")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="klock-", dir=arguments.work))
    try:
        with registry_with_base(folder / "server", cache=arguments.work / "klock-benchmarks") as server:
            found, loads = _measured(folder, server, arguments.machines, arguments.rounds)
    finally:
        remove(folder)
    page = _heading(loads) + _table(found)
    print(page, end="")
    if arguments.output:
        arguments.output.write_text(page, "utf-8")


def _measured(
    folder: Path, server: Registry, machines: Sequence[int], rounds: int
) -> tuple[dict[str, list[list[Start]]], list[float]]:
    """The starts of each side, by the number of machines; and the load average before each round."""
    project = folder / "project"
    project.mkdir()
    (project / "kimage.py").write_text(IMAGE)
    (project / "pyproject.toml").write_text(
        f'[tool.klock]\nregistry-mirrors = {{ "docker.io" = "{server.url}" }}\ncache = "oci://{server.host}/team/cache"\n'
    )
    store = {"KLOCK_CACHE_DIR": str(folder / "store")}
    for words in (["lock"], ["sync"], ["push", "--cache"]):
        _call([*KLOCK, *words, "-q"], project, store)
    name = _call([*KLOCK, "push", "-q", f"{server.host}/team/image:v1"], project, store).strip()

    def with_klock(place: Path) -> subprocess.Popen[bytes]:
        variables = {"KLOCK_CACHE_DIR": str(place), **NOWHERE}
        return _begun([*KLOCK, "run", "-q", "--frozen", "--", *TASK], project, variables)

    def with_podman(place: Path) -> subprocess.Popen[bytes]:
        options = ["--rm", "--quiet", "--network=none", "--tls-verify=false"]
        return _begun(["podman", "run", *options, name, *TASK], project, {**podman_settings(place), **NOWHERE})

    sides: dict[str, Callable[[Path], subprocess.Popen[bytes]]] = {"klock run": with_klock, "podman run": with_podman}
    found: dict[str, list[list[Start]]] = {side: [[] for _ in machines] for side in sides}
    loads = []
    for number in range(rounds):
        loads.append(os.getloadavg()[0])
        turns = folder / str(number)
        turns.mkdir()
        for column, count in enumerate(machines):
            for side, begin in sides.items() if number % 2 else reversed(sides.items()):
                start = _started(turns / f"{count}-{side.partition(' ')[0]}", begin, count, server)
                found[side][column].append(start)
                load = os.getloadavg()[0]
                print(f"round {number + 1}, {side}, load average {load:.1f}: {start}", file=sys.stderr, flush=True)
        # Not between: ext4 makes files slowly where others have just gone.
        remove(turns)
        time.sleep(_REST if number + 1 < rounds else 0)
    return found, loads


def _started(folder: Path, begin: Callable[[Path], subprocess.Popen[bytes]], count: int, server: Registry) -> Start:
    folder.mkdir()
    server.forget_requests()
    before, since = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    running = [begin(folder / str(number)) for number in range(count)]
    said = [process.communicate()[0] for process in running]
    seconds, after = time.monotonic() - since, resource.getrusage(resource.RUSAGE_CHILDREN)
    failed = [text.decode(errors="replace") for process, text in zip(running, said, strict=True) if process.returncode]
    if failed:
        sys.exit(f"error: {failed[0]}")
    answers = _ANSWER.findall((server.folder / "log").read_text("utf-8", "replace"))
    return Start(
        machines=count,
        seconds=seconds,
        cpu_seconds=after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime,
        requests=len(answers),
        received=sum(int(size) for method, _, _, size in answers if method == "GET"),
    )


def _begun(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **variables}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _call(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)}\n{done.stderr}")
    return done.stdout


def _heading(loads: Sequence[float]) -> str:
    podman = _call(["podman", "--version"], Path("/"), {}).strip()
    return (
        f"# Many machines at once\n\n{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, "
        f"{len(loads)} round{'s' * (len(loads) > 1)}, {os.cpu_count()} cores for registry and machines together, "
        f"load average before each round {', '.join(f'{load:.1f}' for load in loads)}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {podman}.\n\n"
        "*seconds* is the time until the last machine had done its first task; with several rounds, the median.\n\n"
    )


def _table(found: Mapping[str, Sequence[Sequence[Start]]]) -> str:
    rows = ["| | machines | seconds | CPU s, each | requests, each | MB, each |", "|---|---|---|---|---|---|"]
    for side, columns in found.items():
        for starts in columns:
            count = starts[0].machines
            median = {
                field: statistics.median(getattr(start, field) for start in starts)
                for field in ("seconds", "cpu_seconds", "requests", "received")
            }
            rows.append(
                f"| {side} | {count} | {median['seconds']:.1f} | {median['cpu_seconds'] / count:.2f} "
                f"| {median['requests'] / count:.1f} | {median['received'] / count / 1e6:.1f} |"
            )
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
