"""Measures klock on the reference's Basic example, beside uv and podman.

    python benchmarks/basic_example.py [--runs N] [--output FILE.md] [--work FOLDER]

Needs an installation of klock with its development dependencies, and docker-registry, skopeo, mmdebstrap and podman.
Every tool starts with caches of its own in a fresh folder in each round; nothing of the user's is used or changed.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NoReturn

REPOSITORY: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from benchmarks import contenders  # noqa: E402
from benchmarks.base_image import IMAGE, SUITE, registry_with_base  # noqa: E402
from benchmarks.contenders import Contender, Operation, Subject, remove  # noqa: E402
from benchmarks.report import KLOCK, Heading, render  # noqa: E402
from benchmarks.stopwatch import CallError, Sample, measure  # noqa: E402

EXAMPLE: Final = REPOSITORY / "fixtures/examples/basic"
PACKAGES: Final = {
    "docker-registry": "docker-registry",
    "skopeo": "skopeo",
    "mmdebstrap": "mmdebstrap",
    "bwrap": "bubblewrap",
    "podman": "podman runc iptables",
    "dockerd": "docker.io",
}

Samples = dict[Operation, dict[str, list[Sample]]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures klock on the Basic example, beside uv and podman.")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="rounds (default: 5)")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="where to write the result, besides stdout")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="a folder on a disk with 20 GB for a round")
    parser.add_argument("--tools", nargs="+", metavar="NAME", help="only these columns")
    arguments = parser.parse_args()
    if missing := [package for program, package in PACKAGES.items() if shutil.which(program) is None]:
        _stop(f"programs are missing\n\nhint: as root: apt-get install --no-install-recommends {' '.join(missing)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="klock-", dir=arguments.work))
    try:
        page = _run(folder, rounds=arguments.runs, cache=_kept(), only=arguments.tools)
    except (CallError, subprocess.CalledProcessError) as error:
        _stop(str(error))
    except KeyboardInterrupt:
        _stop("interrupted")
    finally:
        remove(folder)
    print(page, end="")
    if arguments.output:
        arguments.output.write_text(page, "utf-8")


def _run(folder: Path, *, rounds: int, cache: Path, only: list[str] | None = None) -> str:
    uv = _uv_program()
    source = _snapshot(folder)
    with registry_with_base(folder, cache=cache) as server, ExitStack() as stack:
        subject = Subject(example=EXAMPLE, requirements=_requirements(), registry=server.host, image=":".join(IMAGE))
        _say("warming up: one lock")
        subject, locked = _look_at_base(subject, folder, source)
        samples: Samples = {}
        for number in range(rounds):
            place = folder / str(number)
            place.mkdir()
            dockerds = stack.enter_context(ExitStack())
            klock = contenders.klock(subject, place / "klock", number, source=source)
            docker = dockerds.enter_context(_dockerd(place / "d"))
            tools: dict[str, Contender] = {
                KLOCK: klock,
                "klock on podman": contenders.on_podman(klock, subject, place / "q", number, program="podman"),
                "klock on docker": contenders.on_docker(klock, host=dockerds.enter_context(_dockerd(place / "e"))),
                "uv": contenders.uv(subject, place / "uv", number, program=uv),
                "uv, compiling": contenders.uv_with_bytecode(
                    subject, place / "uv2", number, program=uv, resolved=place / "uv/requirements.txt"
                ),
                # A short name: podman allows no more than 50 letters for the folder of its sockets.
                "podman": contenders.podman(subject, place / "p", number, program="podman"),
                "docker": contenders.docker(subject, place / "b", number, program="docker", host=docker),
                "podman, exported": contenders.exported_on_podman(
                    klock, subject, place / "x", number, program="podman"
                ),
                "docker, exported": contenders.exported_on_docker(
                    klock,
                    subject,
                    place / "y",
                    number,
                    program="docker",
                    host=dockerds.enter_context(_dockerd(place / "f")),
                ),
            }
            tools = {name: tool for name, tool in tools.items() if only is None or name in only}
            _say(f"round {number + 1} of {rounds}")
            _measure_round(tools, samples, backwards=number % 2 == 1)
            dockerds.close()
        resolved = folder / "0/uv/requirements.txt"
    by_uv = _pins(resolved.read_text("utf-8")) if resolved.exists() else locked
    differing = sorted(set(locked) ^ set(by_uv))
    heading = Heading(
        date=datetime.date.today().isoformat(),
        measured=f"{rounds} rounds of `python benchmarks/basic_example.py`",
        load=os.getloadavg()[2],
        base=f"Debian {SUITE} with its Python {subject.python}, 1 layer, in `docker-registry` on loopback "
        f"as `{subject.image}`",
        requirements=subject.requirements,
        packages=locked,
        note=f"uv differs: {', '.join(differing)}." if differing else "uv chose the same ones.",
        disk=_file_system(folder),
        versions=_versions(uv),
    )
    return render(heading, samples)


@contextmanager
def _dockerd(folder: Path) -> Iterator[str]:
    """A docker daemon with storage of its own; yields where it listens."""
    folder.mkdir()
    host = f"unix://{folder}/s"
    command = ["dockerd", "--iptables=false", "--bridge=none", "--storage-driver=overlay2", "-H", host]
    command += ["--data-root", f"{folder}/root", "--exec-root", f"{folder}/exec", "-p", f"{folder}/pid"]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        environment = os.environ | {"DOCKER_HOST": host}
        while subprocess.run(["docker", "version"], env=environment, capture_output=True, check=False).returncode:
            if process.poll() is not None:
                _stop(f"dockerd does not start: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)
        yield host
    finally:
        process.terminate()
        process.wait()


def _measure_round(tools: Mapping[str, Contender], samples: Samples, *, backwards: bool) -> None:
    """Every operation by every tool, in turns. uv's compiling twin needs uv's lock, which an earlier operation made."""
    for operation in Operation:
        row = samples.setdefault(operation, {})
        for _ in range(operation.times):
            for name in reversed(list(tools)) if backwards else tools:
                call = tools[name](operation)
                if call is not None:
                    sample = measure(call)
                    row.setdefault(name, []).append(sample)
                    _say(f"  {operation.value}: {name}: {sample}")
        samples[operation] = {name: row[name] for name in tools if name in row}
    for tool in {"podman", "docker"} & tools.keys():  # a build is both
        samples[Operation.SYNC_COLD][tool] = samples[Operation.LOCK_COLD][tool]
        samples[Operation.SYNC_CHANGED][tool] = samples[Operation.LOCK_CHANGED][tool]


def _look_at_base(subject: Subject, folder: Path, source: Path) -> tuple[Subject, list[str]]:
    """A first lock says what the base's Python is, and what is locked. It also compiles klock's modules."""
    from dataclasses import replace

    from klock import lockfile

    place = folder / "first"
    place.mkdir()
    first = contenders.klock(subject, place / "klock", -1, source=source)
    call = first(Operation.LOCK_COLD)
    assert call is not None
    measure(call)
    lock = lockfile.read(call.cwd / "kimage.lock")
    assert lock is not None
    (target,) = lock.targets
    assert target.interpreter is not None
    major, minor = target.interpreter.version.split(".")[:2]
    libc = re.fullmatch(r"glibc (\d+)\.(\d+)", target.interpreter.libc)
    assert libc is not None, target.interpreter.libc
    platform = f"{os.uname().machine}-manylinux_{libc[1]}_{libc[2]}"
    return replace(subject, python=f"{major}.{minor}", platform=platform), [package.pin for package in target.packages]


def _requirements() -> tuple[str, ...]:
    from klock.image.steps import PipInstall
    from klock.project import load_image

    (step,) = load_image(str(EXAMPLE / "kimage.py")).image.steps
    assert isinstance(step, PipInstall)
    return step.requirements


def _pins(text: str) -> list[str]:
    return re.findall(r"^[A-Za-z0-9._-]+==[^\s;\\]+", text, re.MULTILINE)


def _snapshot(folder: Path) -> Path:
    """A copy of klock, so that an edit meanwhile does not mix two versions."""
    source = folder / "source"
    shutil.copytree(REPOSITORY / "klock", source / "klock", ignore=shutil.ignore_patterns("__pycache__"))
    return source


def _kept() -> Path:
    return Path(os.environ.get("KLOCK_TEST_CACHE", "/var/tmp/klock-test-cache"))


def _uv_program() -> str:
    from klock.uv_program import uv_program

    return str(uv_program())


def _versions(uv: str) -> dict[str, str]:
    from klock import __version__

    def said(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = re.search(r"\d+(\.\d+)+", done.stdout)
        return found[0] if found else done.stdout.strip()

    return {
        "klock": f"{__version__} (commit {_commit()})",
        "uv": said(uv, "--version"),
        "podman": said("podman", "--version"),
        "docker": said("dockerd", "--version"),
        "bubblewrap": said("bwrap", "--version"),
    }


def _file_system(folder: Path) -> str:
    """What `folder` is on, as `ext4 (/dev/sda1)`: the mount with the longest path above it."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text("utf-8").splitlines()]
    above = [(target, kind, source) for source, target, kind, *_ in mounts if folder.is_relative_to(target)]
    _, kind, source = max(above, key=lambda mount: len(mount[0]))
    return f"{kind} ({source})"


def _commit() -> str:
    git: Callable[..., str] = lambda *words: subprocess.run(  # noqa: E731
        ["git", "-C", str(REPOSITORY), *words], capture_output=True, text=True, check=False
    ).stdout.strip()
    changed = " and changes" if git("status", "--porcelain", "--", "klock") else ""
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + changed


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _stop(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
