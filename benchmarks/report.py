"""The results as a Markdown page."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.contenders import Operation
from benchmarks.stopwatch import Sample

__all__ = ["KLOCK", "Heading", "Results", "render"]

KLOCK: Final = "klock"

_COMPARED: Final = (
    (KLOCK, "uv"),
    (KLOCK, "uv, compiling"),
    (KLOCK, "podman"),
    (KLOCK, "docker"),
    (KLOCK, "podman, exported"),
    (KLOCK, "docker, exported"),
    ("klock on podman", "podman, exported"),
    ("klock on docker", "docker, exported"),
)
"""Whose samples are divided by whose."""

Results = Mapping[Operation, Mapping[str, Sequence[Sample]]]
"""The samples of each operation by tool, in the order they were taken; a tool that lacks the operation is not there."""

_EXPLANATION: Final = """\
Times are medians of the whole process; memory is the peak of the largest process of any round. A ratio is the median
of the ratios of samples taken one after the other, klock's time divided by the other's: below 1 klock is faster. Tools
take turns, and another one begins each round. Times are of one machine with other work on it; ratios hold
better, and those of CPU time best. CPU time is that of the processes that ended: some of podman's may be missing.

The tools do not do the same work:

- `klock lock` pulls the base, resolves, downloads, installs and compiles inside it, and takes the digest of what that
  made; `uv pip compile` resolves and does nothing else; `podman build` pulls, resolves and installs, and locks nothing.
- `klock sync` provides the base and the packages, and checks every byte; `uv pip sync` installs packages into a
  folder, without a base, and compiles modules only when told to ("uv, compiling"), which klock and pip always do;
  `podman build` and `docker build` are the same cold build for lock and sync, taken once.
- "podman, exported" and "docker, exported" build the Dockerfile that `klock export dockerfile` writes of the same lock.
- "klock on podman" and "klock on docker" sync what klock has locked, with a store and an engine's storage of their own.
- With downloads kept, klock still unpacks the base, since its store is otherwise empty.
- With one requirement more, all tools install everything again, on a base they have; klock compiles only what is new.
- `run` compares `klock run -- true` with `podman run --rm --network=none`.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """What was measured, with what. `versions` is by the name of the tool, `load` the machine's load average."""

    date: str
    measured: str
    load: float
    base: str
    requirements: Sequence[str]
    packages: Sequence[str]
    note: str
    disk: str
    versions: Mapping[str, str]


def render(heading: Heading, results: Results) -> str:
    tools = max((list(samples) for samples in results.values()), key=len)
    pairs = [(one, other) for one, other in _COMPARED if one in tools and other in tools]
    lines = [*_introduction(heading), "## Wall time, and peak memory", ""]
    lines += _table(["operation", *tools], [[o.value, *(_wall(s.get(t)) for t in tools)] for o, s in results.items()])
    lines += ["", "## Ratios of wall time", ""]
    lines += _ratios(results, pairs, lambda sample: sample.seconds)
    lines += ["", "## CPU time", ""]
    lines += _table(["operation", *tools], [[o.value, *(_cpu(s.get(t)) for t in tools)] for o, s in results.items()])
    lines += ["", "## Ratios of CPU time", ""]
    lines += _ratios(results, pairs, lambda sample: sample.cpu_seconds)
    return "\n".join([*lines, "", "## How to read this", "", _EXPLANATION])


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heading, ["---"] + ["---:"] * (len(heading) - 1), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _ratios(results: Results, pairs: Sequence[tuple[str, str]], figure: Callable[[Sample], float]) -> list[str]:
    heading = ["operation", *(f"{one} / {other}" for one, other in pairs)]
    rows = [[o.value, *(_ratio(s.get(one), s.get(other), figure) for one, other in pairs)] for o, s in results.items()]
    return _table(heading, rows)


def _introduction(heading: Heading) -> list[str]:
    release = platform.release().partition("-")[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    requirements = ", ".join(f"`{line}`" for line in heading.requirements)
    versions = ", ".join(f"{name} {version}" for name, version in heading.versions.items())
    return [
        "# The Basic example: klock, uv, podman and docker",
        "",
        f"{heading.date}, {heading.measured}.",
        "",
        f"- Requirements: {requirements}; locked are {len(heading.packages)} distributions. {heading.note}",
        f"- Base: {heading.base}.",
        f"- Machine: {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, {platform.machine()}, "
        f"Linux {release}, load average {heading.load:.1f}, Python {platform.python_version()} runs klock.",
        f"- All caches and stores are on {heading.disk}.",
        f"- Versions: {versions}.",
        "",
    ]


def _wall(samples: Sequence[Sample] | None) -> str:
    if not samples:
        return "–"
    return f"{_seconds(median(s.seconds for s in samples))}, {max(s.peak_mib for s in samples):.0f} MiB"


def _cpu(samples: Sequence[Sample] | None) -> str:
    return _seconds(median(s.cpu_seconds for s in samples)) if samples else "–"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _ratio(ours: Sequence[Sample] | None, theirs: Sequence[Sample] | None, figure: Callable[[Sample], float]) -> str:
    if not ours or not theirs:
        return "–"
    ratio = median(figure(a) / figure(b) for a, b in zip(ours, theirs, strict=True))
    return f"{ratio:.0f}" if ratio >= 20 else f"{ratio:.1f}" if ratio >= 2 else f"{ratio:.2f}"
