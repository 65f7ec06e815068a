"""Measures klock on Dockerfiles, beside `podman build` of the same ones.

    python benchmarks/dockerfiles.py [--runs N] [--output FILE.md] [--work FOLDER] [--only NAME ...]

Needs root, an installation of klock with its development dependencies, and docker-registry, skopeo, mmdebstrap and
podman. Both pull the base from a registry on loopback, have caches of their own in a fresh folder in each round, and
take turns. podman builds with `--layers`, as docker does: cold, unchanged, and with the marked line changed.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

REPOSITORY: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from benchmarks.base_image import IMAGE, registry_with_base  # noqa: E402
from benchmarks.contenders import podman_settings, remove  # noqa: E402
from benchmarks.large_dockerfiles import FILES as LARGE_FILES  # noqa: E402
from benchmarks.large_dockerfiles import LARGE  # noqa: E402
from benchmarks.stopwatch import Call, CallError, Sample, measure  # noqa: E402
from klock.lockfile import read  # noqa: E402

CHANGED: Final = "# one changed line: "
"""A line `A` below a comment with this and `B` is replaced by `B`."""

_START: Final = """\
ARG BASE=python:3.12-slim
FROM ${BASE}
ARG PIP_CERT
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore PYTHONUNBUFFERED=1
"""

DOCKERFILES: Final[Mapping[str, str]] = {
    "a web service": _START
    + """\
RUN apt-get update && apt-get install -y --no-install-recommends curl git tini && rm -rf /var/lib/apt/lists/*
WORKDIR /app
# one changed line: RUN pip install --no-cache-dir fastapi uvicorn httpx pydantic jinja2 humanize
RUN pip install --no-cache-dir fastapi uvicorn httpx pydantic jinja2
COPY src/ ./
USER nobody
EXPOSE 8000
ENTRYPOINT ["tini", "--"]
CMD ["uvicorn", "main:app"]
""",
    "data science": _START
    + """\
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir numpy pandas scikit-learn
# one changed line: RUN pip install --no-cache-dir matplotlib tqdm tabulate
RUN pip install --no-cache-dir matplotlib tqdm
COPY src/ /app/
WORKDIR /app
CMD ["python3", "main.py"]
""",
    "a program built in a stage of its own": """\
ARG BASE=python:3.12-slim
FROM ${BASE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc make libc6-dev && rm -rf /var/lib/apt/lists/*
COPY src/ /src/
RUN cd /src && gcc -O2 -o /usr/local/bin/sieve sieve.c && sieve 200000000
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends jq sqlite3 && rm -rf /var/lib/apt/lists/*
COPY --from=build /usr/local/bin/sieve /usr/local/bin/
# one changed line: RUN sieve 40000001 > /srv/primes
RUN sieve 40000000 > /srv/primes
CMD ["sieve", "1000"]
""",
    **LARGE,
}

FILES: Final = {
    "src/main.py": "print('hello')\n",
    "src/sieve.c": """\
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
  long most = atol(argv[1]), count = 0;
  char *composite = calloc(most + 1, 1);
  for (long n = 2; n <= most; n++) {
    if (composite[n]) continue;
    count++;
    for (long m = 2 * n; m <= most; m += n) composite[m] = 1;
  }
  printf("%ld\\n", count);
}
""",
    **LARGE_FILES,
}

OPERATIONS: Final = {
    "lock": ("podman, cold", 1.2),
    "sync elsewhere": ("podman, cold", 0.7),
    "lock, one changed line": ("podman, cold", 0.3),
    "lock, nothing changed": ("podman, cold", 0.1),
    "sync, nothing changed": ("podman, cold", 0.1),
}
"""What klock does, what it is compared with, and the most that the ratio may be."""


@dataclass
class Measured:
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    lockfile: int = 0
    steps: int = 0

    def add(self, name: str, call: Call) -> None:
        sample = measure(call)
        print(f"  {name}: {sample}", file=sys.stderr, flush=True)
        self.samples.setdefault(name, []).append(sample)

    def seconds(self, name: str) -> float:
        return statistics.median(sample.seconds for sample in self.samples[name])

    def ratio(self, name: str, other: str) -> str:
        """The medians of the ratios of what was measured in one round: of wall time, and of CPU time."""
        pairs = list(zip(self.samples[name], self.samples[other], strict=True))
        wall = statistics.median(one.seconds / two.seconds for one, two in pairs)
        cpu = statistics.median(one.cpu_seconds / two.cpu_seconds for one, two in pairs)
        return f"{wall:.2f}x ({cpu:.2f}x)"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures klock on Dockerfiles, beside podman build.")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="rounds (default: 3)")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="where to write the result, besides stdout")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="a folder on a disk with 10 GB for a round")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only Dockerfiles whose name holds a word")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="kd", dir=arguments.work))
    measured = {
        name: Measured() for name in DOCKERFILES if not arguments.only or any(word in name for word in arguments.only)
    }
    try:
        cache = Path(os.environ.get("KLOCK_TEST_CACHE", "/var/tmp/klock-test-cache"))
        # A copy, so that an edit meanwhile does not mix two versions.
        source = folder / "source"
        shutil.copytree(REPOSITORY / "klock", source / "klock", ignore=shutil.ignore_patterns("__pycache__"))
        # As pip does when it installs klock.
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(source)], check=True)
        with registry_with_base(folder, cache=cache) as server:
            for number in range(arguments.runs):
                for name, results in measured.items():
                    print(f"round {number + 1} of {arguments.runs}: {name}", file=sys.stderr, flush=True)
                    place = folder / "r"
                    place.mkdir()
                    _round(place, source, DOCKERFILES[name], server.host, results, podman_first=number % 2 == 1)
                    remove(place)
    except (CallError, subprocess.CalledProcessError) as error:
        _stop(str(error))
    except KeyboardInterrupt:
        _stop("interrupted")
    finally:
        remove(folder)
    page = "".join(f"{line}\n" for line in _page(measured, rounds=arguments.runs))
    print(page, end="")
    if arguments.output:
        arguments.output.write_text(page, "utf-8")


def _round(place: Path, source: Path, dockerfile: str, registry: str, results: Measured, *, podman_first: bool) -> None:
    project = place / "project"
    for path, text in {**FILES, "Dockerfile": dockerfile}.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text, "utf-8")
    mirrors = f'[tool.klock]\nregistry-mirrors = {{"docker.io" = "http://{registry}"}}\n'
    (project / "pyproject.toml").write_text(mirrors, "utf-8")
    changed = place / "changed"
    shutil.copytree(project, changed)
    (changed / "Dockerfile").write_text(_with_one_changed_line(dockerfile), "utf-8")
    tools = [("klock", _klock_calls(place, source)), ("podman", _podman_calls(place, registry))]
    for _, calls in reversed(tools) if podman_first else tools:
        for name, call in calls:
            if name == "lock, one changed line":
                shutil.copy(project / "kimage.lock", changed / "kimage.lock")
            results.add(name, call)
    lockfile = project / "kimage.lock"
    results.lockfile = lockfile.stat().st_size
    locked = read(lockfile)
    assert locked is not None
    (target,) = locked.targets
    results.steps = len(target.steps) + sum(len(stage.steps) for stage in target.stages)


def _with_one_changed_line(dockerfile: str) -> str:
    lines = dockerfile.splitlines()
    (mark,) = (number for number, line in enumerate(lines) if line.startswith(CHANGED))
    lines[mark + 1] = lines[mark].removeprefix(CHANGED)
    return "\n".join(lines) + "\n"


def _klock_calls(place: Path, source: Path) -> Iterator[tuple[str, Call]]:
    program = place / "klock"
    program.write_text("import sys\nfrom klock.entry import main\nsys.exit(main())\n", "utf-8")

    def call(verb: str, store: str, project: str = "project") -> Call:
        return Call(
            argv=(sys.executable, str(program), verb, "Dockerfile"),
            cwd=place / project,
            variables={
                "KLOCK_CACHE_DIR": str(place / store),
                "PYTHONPATH": str(source),
                "PYTHONDONTWRITEBYTECODE": None,
            },
        )

    yield "lock", call("lock", "store")
    yield "lock, nothing changed", call("lock", "store")
    yield "lock, one changed line", call("lock", "store", "changed")
    yield "sync elsewhere", call("sync", "other")
    yield "sync, nothing changed", call("sync", "other")


def _podman_calls(place: Path, registry: str) -> Iterator[tuple[str, Call]]:
    folder = place / "p"
    folder.mkdir()
    variables = podman_settings(folder)
    options = ["--tls-verify=false", "--network=host", "--layers", "--build-arg", f"BASE={registry}/{':'.join(IMAGE)}"]
    if certificates := os.environ.get("SSL_CERT_FILE"):
        options.append(f"--volume={Path(certificates).resolve()}:/run/benchmark-ca.pem:ro")
        options += ["--build-arg", "PIP_CERT=/run/benchmark-ca.pem"]

    def call(project: str) -> Call:
        argv = ("podman", "build", *options, "--tag", f"localhost/{project}", str(place / project))
        return Call(argv=argv, cwd=folder, variables=variables)

    yield "podman, cold", call("project")
    yield "podman, nothing changed", call("project")
    yield "podman, one changed line", call("changed")


def _page(measured: Mapping[str, Measured], *, rounds: int) -> Iterator[str]:
    yield "# Dockerfiles: klock and `podman build`"
    yield ""
    yield f"{datetime.date.today().isoformat()}, `python benchmarks/dockerfiles.py --runs {rounds}`. Machine: "
    yield f"{os.cpu_count()} cores, load average {os.getloadavg()[2]:.1f}."
    yield ""
    yield "Times are medians of the whole process. A ratio is the median of the ratios to the cold build of the same"
    yield "round; that of CPU time is in brackets. With other work on the machine, CPU time holds better."
    yield "`klock lock` records the network and runs each step twice, to prove that it repeats. `klock sync` makes the"
    yield "locked layers in an empty store. Wanted is at most the ratio in the last row."
    yield ""
    yield "| Dockerfile | " + " | ".join(["podman, cold", *OPERATIONS]) + " | steps | lockfile |"
    yield "|---|" + "---:|" * (len(OPERATIONS) + 3)
    complete = {name: each for name, each in measured.items() if "podman, one changed line" in each.samples}
    for name, results in complete.items():
        cells = [f"{results.seconds('podman, cold'):.1f} s"]
        for operation, (other, _) in OPERATIONS.items():
            cells.append(f"{results.seconds(operation):.1f} s, {results.ratio(operation, other)}")
        yield f"| {name} | " + " | ".join(cells) + f" | {results.steps} | {results.lockfile / 1024:.0f} KiB |"
    wanted = [f"<= {most}x" for _, most in OPERATIONS.values()]
    yield "| *wanted* |  | " + " | ".join(wanted) + " |  |  |"
    yield ""
    yield "| Dockerfile | podman, one changed line | podman, nothing changed |"
    yield "|---|---:|---:|"
    for name, results in complete.items():
        others = [f"{results.seconds(f'podman, {what}'):.1f} s" for what in ("one changed line", "nothing changed")]
        yield f"| {name} | {' | '.join(others)} |"


def _stop(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
