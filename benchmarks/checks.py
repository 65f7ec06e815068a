"""Measures checks of an environment beside `git status` and `sha256sum` on the same files.

    python benchmarks/checks.py [--files N ...] [--runs N] [--output FILE.md] [--work FOLDER]

Needs an installation of klock with its development dependencies, git, and busybox-static. Everything is in a fresh
folder; nothing of the user's is used or changed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from benchmarks.pairs import Pair, Taken, heading, table, taken  # noqa: E402
from benchmarks.stopwatch import Call, CallError, measure  # noqa: E402
from tests.integration.small_base import SMALL_BASE, Member, write_small_base  # noqa: E402

IMAGE: Final = f"""\
import klock as kt

image = kt.Image().from_docker("{SMALL_BASE}").set_env_vars({{"PLACE": "here"}})
"""
WORDS: Final = """\
*remembered*: nothing changed since the last check of the same command line, whose answer was noted. This is what you
see when you check again, and in a hook or a prompt. `check --env` alone is the first check after `klock sync`, or after
something changed: it runs kimage.py and imports klock, which takes a quarter of a second whatever the number of files.
`check` looks at the image and the lockfile only. *one file written* is `klock run` and the check after it.

`check --trust-store` looks only at what was written to the environment, whatever the number of files in its layers.

Where the time goes: a remembered check asks for the stat of each file, as git does, in two processes. Of a deep check
half is opening and reading through overlayfs, and a fifth the SHA-256. The aims are meant for 57,000 files.

Other ways to ask for 57,000 stats, compared with klock's own (CPU time, least of seven):

| way | ms |
|---|---:|
| fstatat in a loop in C, and nothing else | 75 |
| `find -cnewer` | 87 |
| statx through ctypes | 89 |
| `os.lstat` by names in the current folder: klock's | 93 |
| `os.stat` with dir_fd | 96 |
| `find -printf` | 104 |
| `DirEntry.stat` | 122 |
| git status, all that it does | 115 |

Python's own start takes 9 ms more. So only the bare loop in C, which compares nothing, comes below 0.75 of git's CPU
time (0.73).
"""
A_FOLDER: Final = 100
"""Files in each folder of the tree."""


_YOUNG: Final = 3.0
"""Seconds."""
_COMPILED: Final[Mapping[str, str | None]] = {"PYTHONDONTWRITEBYTECODE": None}
"""klock as it is installed: its modules are compiled once."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures klock's checks beside git status and sha256sum.")
    parser.add_argument("--files", type=int, nargs="+", default=[1_000, 57_000], metavar="N")
    parser.add_argument("--runs", type=int, default=7, metavar="N", help="rounds (default: 7)")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="where to write the result, besides stdout")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="a folder on a disk with room")
    arguments = parser.parse_args()
    parts = [heading("Checks", arguments.runs, [["git", "--version"]]), WORDS]
    for files in arguments.files:
        folder = Path(tempfile.mkdtemp(prefix="klock-", dir=arguments.work))
        try:
            parts.append(table(f"{files:,} files", _measured(folder, files, rounds=arguments.runs)))
        except (CallError, subprocess.CalledProcessError) as error:
            sys.exit(f"error: {error}")
        finally:
            _remove(folder)
    page = "\n".join(parts)
    print(page, end="")
    if arguments.output:
        arguments.output.write_text(page, "utf-8")


def _measured(folder: Path, files: int, *, rounds: int) -> list[tuple[Pair, Taken]]:
    project = folder / "project"
    project.mkdir()
    _write_tree(folder / "tree", files)
    write_small_base(project / "layout", list(_members(folder / "tree")))
    (project / "kimage.py").write_text(IMAGE)
    klock = str(Path(sys.executable).with_name("klock"))
    pairs = _pairs(klock, folder, project)
    for words in (("lock", "-q"), ("sync", "-q")):
        measure(Call(argv=(klock, *words), cwd=project, variables=_store(folder)))
    _git(folder / "tree")
    results = []
    for pair in pairs:
        # What was written a moment ago may not be told by its stat, and is not remembered.
        time.sleep(_YOUNG)
        results.append((pair, taken(pair, rounds)))
    return results


def _store(folder: Path) -> dict[str, str | None]:
    return {"KLOCK_CACHE_DIR": str(folder / "store"), **_COMPILED}


def _pairs(klock: str, folder: Path, project: Path) -> list[Pair]:
    store = _store(folder)

    def of_klock(*words: str) -> Callable[[int], Call]:
        return lambda _: Call(argv=(klock, *words), cwd=project, variables=store)

    def anew(*words: str) -> Callable[[int], Call]:
        """An answer is remembered for the same variables only."""
        return lambda number: Call(argv=(klock, *words), cwd=project, variables={**store, "ROUND": str(number)})

    def written(number: int) -> Call:
        """One file was written since the sync: the check finds it, and exits with 1."""
        wrote = f"{klock} run -q --no-sync -- sh -c 'echo {number} > /srv/written' && {klock} check --env"
        variables = {**store, "ROUND": str(number)}
        return Call(argv=("/bin/sh", "-c", f"{wrote}; [ $? = 1 ]"), cwd=project, variables=variables)

    def git(_: int) -> Call:
        return Call(argv=("git", "status", "--porcelain"), cwd=folder / "tree")

    def hashes(_: int) -> Call:
        words = "find . -name .git -prune -o -type f -print0 | xargs -0 -P2 -n 500 sha256sum > /dev/null"
        return Call(argv=("/bin/sh", "-c", words), cwd=folder / "tree")

    status, sums = "git status", "sha256sum"
    restored = Call(argv=(klock, "sync", "-q"), cwd=project, variables=store)
    return [
        Pair(klock="check --env, remembered", other=status, aim=0.75, call=of_klock("check", "--env"), beside=git),
        Pair(
            klock="check --trust-store, remembered",
            other=status,
            aim=0.1,
            call=of_klock("check", "--trust-store"),
            beside=git,
        ),
        # Another command line, for each has one remembered answer.
        Pair(klock="check --env", other=status, aim=None, call=anew("check", "kimage.py", "--env"), beside=git),
        Pair(klock="check --deep", other=sums, aim=1.5, call=of_klock("check", "--deep"), beside=hashes),
        Pair(klock="check, remembered", other=status, aim=None, call=of_klock("check"), beside=git),
        Pair(
            klock="check --env, one file written",
            other=status,
            aim=None,
            call=written,
            beside=git,
            after=restored,
        ),
    ]


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


def _remove(folder: Path) -> None:
    """Files of the store may belong to ids of the workshop's namespaces."""
    if os.geteuid() != 0:
        owner = ("unshare", "--user", "--map-root-user", "--map-auto", "--")
        subprocess.run([*owner, "rm", "-rf", "--", str(folder)], check=False)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
