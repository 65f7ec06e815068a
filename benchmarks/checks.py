"""Measures checks of an environment beside `git status` and `sha256sum` on the same files, and klock's own start.

    python benchmarks/checks.py [--files N ...] [--runs N] [--output FILE.md] [--work FOLDER]

Needs an installation of klock with its development dependencies, git, and busybox-static. Everything is in a fresh
folder; nothing of the user's is used or changed. Who begins changes from round to round, and a ratio is the median of
the ratios of two samples that were taken one after the other.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from benchmarks.stopwatch import Call, CallError, Sample, measure  # noqa: E402
from tests.integration.small_base import SMALL_BASE, Member, write_small_base  # noqa: E402

IMAGE: Final = f"""\
import klock as kt

image = kt.Image().from_docker("{SMALL_BASE}").set_env_vars({{"PLACE": "here"}})
"""
A_FOLDER: Final = 100
"""Files in each folder of the tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What is compared with what, and the ratio that it is to have at most; None where there is no aim."""

    klock: str
    other: str
    aim: float | None


PAIRS: Final = (
    Pair(klock="check --env, remembered", other="git status", aim=0.75),
    Pair(klock="check --env", other="git status", aim=0.75),
    Pair(klock="check --deep", other="sha256sum", aim=1.5),
    Pair(klock="--version", other="python", aim=1.6),
    Pair(klock="lock, nothing changed", other="python", aim=None),
    Pair(klock="check --env, one file written", other="git status", aim=None),
)

_YOUNG: Final = 3.0
"""Seconds."""
_WRITES: Final = "check --env, one file written"

_COMPILED: Final[Mapping[str, str | None]] = {"PYTHONDONTWRITEBYTECODE": None}
"""klock as it is installed: its modules are compiled once."""

Samples = dict[str, list[Sample]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures klock's checks beside git status and sha256sum.")
    parser.add_argument("--files", type=int, nargs="+", default=[1_000, 57_000], metavar="N")
    parser.add_argument("--runs", type=int, default=7, metavar="N", help="rounds (default: 7)")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="where to write the result, besides stdout")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="a folder on a disk with room")
    arguments = parser.parse_args()
    parts = [_heading(arguments.runs)]
    for files in arguments.files:
        folder = Path(tempfile.mkdtemp(prefix="klock-", dir=arguments.work))
        try:
            parts.append(_table(files, _measured(folder, files, rounds=arguments.runs)))
        except (CallError, subprocess.CalledProcessError) as error:
            sys.exit(f"error: {error}")
        finally:
            _remove(folder)
    page = "\n".join(parts)
    print(page, end="")
    if arguments.output:
        arguments.output.write_text(page, "utf-8")


def _measured(folder: Path, files: int, *, rounds: int) -> Samples:
    project = folder / "project"
    project.mkdir()
    _write_tree(folder / "tree", files)
    write_small_base(project / "layout", list(_members(folder / "tree")))
    (project / "kimage.py").write_text(IMAGE)
    calls = _calls(folder, project)
    klock = calls["check --env"]("prepare").argv[0]
    variables = {"KLOCK_CACHE_DIR": str(folder / "store"), **_COMPILED}
    for words in (("lock", "-q"), ("sync", "-q")):
        measure(Call(argv=(klock, *words), cwd=project, variables=variables))
    _git(folder / "tree")
    samples: Samples = {name: [] for name in calls}
    writing = [pair for pair in PAIRS if pair.klock == _WRITES]
    for pairs in ([pair for pair in PAIRS if pair not in writing], writing):
        # What was written a moment ago may not be told by its stat, and is not remembered.
        time.sleep(_YOUNG)
        for number in range(-1, rounds):  # the first round only warms up
            for pair in pairs:
                names = (pair.klock, pair.other) if number % 2 else (pair.other, pair.klock)
                for name in names:
                    sample = measure(calls[name](str(number)))
                    if number >= 0:
                        samples[name].append(sample)
                    if name == _WRITES:
                        measure(Call(argv=(klock, "sync", "-q"), cwd=project, variables=variables))
    return samples


def _calls(folder: Path, project: Path) -> Mapping[str, Callable[[str], Call]]:
    """By name, what is called in a round."""
    klock = str(Path(sys.executable).with_name("klock"))
    store = {"KLOCK_CACHE_DIR": str(folder / "store"), **_COMPILED}
    tree = folder / "tree"

    def of_klock(*words: str) -> Callable[[str], Call]:
        return lambda _: Call(argv=(klock, *words), cwd=project, variables=store)

    def anew(*words: str) -> Callable[[str], Call]:
        """An answer is remembered for the same variables only."""
        return lambda number: Call(argv=(klock, *words), cwd=project, variables={**store, "ROUND": number})

    def written(number: str) -> Call:
        """One file was written since the sync: the check finds it, and exits with 1."""
        wrote = f"{klock} run -q --no-sync -- sh -c 'echo {number} > /srv/written' && {klock} check --env"
        return Call(argv=("/bin/sh", "-c", f"{wrote}; [ $? = 1 ]"), cwd=project, variables={**store, "ROUND": number})

    def other(*argv: str, where: Path = tree) -> Callable[[str], Call]:
        return lambda _: Call(argv=argv, cwd=where)

    hashes = "find . -name .git -prune -o -type f -print0 | xargs -0 -P2 -n 500 sha256sum > /dev/null"
    return {
        "check --env, remembered": of_klock("check", "--env"),
        # Another command line, for each has one remembered answer.
        "check --env": anew("check", "kimage.py", "--env"),
        "check --env, one file written": written,
        "check --deep": of_klock("check", "--deep"),
        "--version": of_klock("--version"),
        "lock, nothing changed": of_klock("lock"),
        "git status": other("git", "status", "--porcelain"),
        "sha256sum": other("/bin/sh", "-c", hashes),
        "python": other(sys.executable, "-I", "-S", "-c", "pass", where=folder),
    }


def _write_tree(tree: Path, files: int) -> None:
    """Files of one to eight kilobytes, as source code has."""
    chosen = random.Random(files)
    block = chosen.randbytes(8192)
    for number in range(files):
        if number % A_FOLDER == 0:
            here = tree / f"{number // A_FOLDER // 100:03}" / f"{number // A_FOLDER:05}"
            here.mkdir(parents=True)
        (here / f"{number:06}.py").write_bytes(b"%d\n" % number + block[: chosen.randrange(1024, 8192)])


def _members(tree: Path) -> Iterator[Member]:
    """The same files as a layer of the base: what the image copies from local files is compared with them, too."""
    yield ("srv/", None)
    for path in sorted(tree.rglob("*")):
        inside = f"srv/{path.relative_to(tree)}"
        yield (f"{inside}/", None) if path.is_dir() else (f"0644:0:{inside}", path.read_bytes())


def _git(tree: Path) -> None:
    who = ("-c", "user.name=A", "-c", "user.email=a@b.test", "-c", "gc.auto=0")
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "all")):
        subprocess.run(["git", *who, *words], cwd=tree, check=True, capture_output=True)


def _heading(rounds: int) -> str:
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return (
        "# Checks\n\n"
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {rounds} rounds, {os.cpu_count()} cores, load average "
        f"{os.getloadavg()[0]:.1f}, Linux {platform.release()}, Python {platform.python_version()}, {git}.\n\n"
        "Times are medians of whole processes in milliseconds. A ratio is the median of the ratios of two samples\n"
        "that were taken one after the other, klock's divided by the other's. *remembered* is the second check with\n"
        "the same variables. *one file written* is `klock run` and the check after it.\n"
    )


def _table(files: int, samples: Samples) -> str:
    lines = [f"## {files:,} files\n", "| klock | ms | CPU ms | beside | ms | CPU ms | ratio | CPU ratio | aim |"]
    lines.append("|---|---:|---:|---|---:|---:|---:|---:|---:|")
    for pair in PAIRS:
        mine, other = samples[pair.klock], _beside(pair, samples)
        cells = [
            *(pair.klock, *_times(mine), pair.other, *_times(other)),
            f"{_ratio(mine, other, lambda each: each.seconds):.2f}",
            f"{_ratio(mine, other, lambda each: each.cpu_seconds):.2f}",
            "" if pair.aim is None else f"{pair.aim:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _beside(pair: Pair, samples: Samples) -> Sequence[Sample]:
    """Those of the other's samples that were taken with this pair's, of which each round has one."""
    same = [each for each in PAIRS if each.other == pair.other and (each.klock == _WRITES) == (pair.klock == _WRITES)]
    rounds = len(samples[pair.klock])
    taken = samples[pair.other]
    taken = taken[-rounds:] if pair.klock == _WRITES else taken[: rounds * len(same)]
    return taken[same.index(pair) :: len(same)]


def _times(samples: Sequence[Sample]) -> tuple[str, str]:
    seconds = median(each.seconds for each in samples)
    return f"{seconds * 1000:.0f}", f"{median(each.cpu_seconds for each in samples) * 1000:.0f}"


def _ratio(mine: Sequence[Sample], other: Sequence[Sample], part: Callable[[Sample], float]) -> float:
    return median(part(a) / max(part(b), 1e-4) for a, b in zip(mine, other, strict=True))


def _remove(folder: Path) -> None:
    """Files of the store may belong to ids of the workshop's namespaces."""
    if os.geteuid() != 0:
        owner = ("unshare", "--user", "--map-root-user", "--map-auto", "--")
        subprocess.run([*owner, "rm", "-rf", "--", str(folder)], check=False)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
