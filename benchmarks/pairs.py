"""Measures commands of klock beside commands of others, one after the other, and writes the table of their ratios."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, TypeAlias

from benchmarks.stopwatch import Call, Sample, measure

__all__ = ["Pair", "Taken", "heading", "table", "taken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What is compared with what, and the ratio that it is to have at most; None where there is no aim.

    A call is made for each round, of its number. `after` tidies up behind klock's, and is not measured.
    """

    klock: str
    other: str
    aim: float | None
    call: Callable[[int], Call]
    beside: Callable[[int], Call]
    after: Call | None = None


Taken: TypeAlias = Sequence[tuple[Sample, Sample]]
"""Of each round klock's sample and the other's."""

_COLUMNS: Final = ("klock", "ms", "CPU ms", "compared with", "ms", "CPU ms", "ratio", "CPU ratio", "least", "aim")


def taken(pair: Pair, rounds: int) -> Taken:
    """Samples of as many rounds. Who begins changes from round to round, and the first one only warms up.

    Raises `benchmarks.stopwatch.CallError`.
    """
    samples = []
    for number in range(-1, rounds):
        if number % 2:
            mine = _measured(pair, number)
            other = measure(pair.beside(number))
        else:
            other = measure(pair.beside(number))
            mine = _measured(pair, number)
        if number >= 0:
            samples.append((mine, other))
    return samples


def _measured(pair: Pair, number: int) -> Sample:
    sample = measure(pair.call(number))
    if pair.after is not None:
        measure(pair.after)
    return sample


def heading(title: str, rounds: int, versions: Iterable[Sequence[str]]) -> str:
    """The beginning of a page; `versions` are commands that say which program this is."""
    said = [subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip() for argv in versions]
    return (
        f"# {title}\n\n"
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {rounds} rounds, {os.cpu_count()} cores, load average "
        f"{os.getloadavg()[0]:.1f}, Linux {platform.release()}, Python {platform.python_version()}, "
        f"{', '.join(said)}.\n\n"
        "Times are medians of whole processes in milliseconds. A ratio is the median of the ratios of two samples\n"
        "that were taken one after the other, klock's divided by the other's. *least* is the ratio of the shortest\n"
        "times: what is left when other work on the machine is left out.\n"
    )


def table(title: str, results: Iterable[tuple[Pair, Taken]]) -> str:
    lines = [f"## {title}\n", "| " + " | ".join(_COLUMNS) + " |", "|---|---:|---:|---|---:|---:|---:|---:|---:|---:|"]
    for pair, samples in results:
        mine, others = [each for each, _ in samples], [each for _, each in samples]
        cells = [
            *(pair.klock, *_times(mine), pair.other, *_times(others)),
            f"{_ratio(samples, lambda each: each.seconds):.2f}",
            f"{_ratio(samples, lambda each: each.cpu_seconds):.2f}",
            f"{min(each.seconds for each in mine) / min(each.seconds for each in others):.2f}",
            "" if pair.aim is None else f"{pair.aim:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _times(samples: Sequence[Sample]) -> tuple[str, str]:
    seconds = median(each.seconds for each in samples)
    return f"{seconds * 1000:.0f}", f"{median(each.cpu_seconds for each in samples) * 1000:.0f}"


def _ratio(samples: Taken, part: Callable[[Sample], float]) -> float:
    return median(part(mine) / max(part(other), 1e-4) for mine, other in samples)
