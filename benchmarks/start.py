"""Measures how long klock takes to start: beside Python's own start, and beside `podman run` of the same image.

    python benchmarks/start.py [--runs N] [--output FILE.md] [--work FOLDER]

Needs an installation of klock, busybox-static and podman with runc. Everything is in a fresh folder with a short name;
nothing of the user's is used or changed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from benchmarks.contenders import podman_settings  # noqa: E402
from benchmarks.pairs import Pair, Taken, heading, table, taken  # noqa: E402
from benchmarks.stopwatch import Call, CallError, measure  # noqa: E402
from tests.integration.small_base import SMALL_BASE, write_small_base  # noqa: E402

IMAGE: Final = f"""\
import klock as kt

image = kt.Image().from_docker("{SMALL_BASE}").set_env_vars({{"PLACE": "here"}}).run_bash("echo made > /made")
"""
WORDS: Final = """\
`python` is `python -I -S -c pass`. `run true` is in an environment of the sandbox, with the image that podman runs: the
one that `klock sync --engine podman` made of the same lockfile. *remembered*: nothing changed since the last command.
*why P, and Tab*: what the shell asks klock when you press Tab after `klock why P`. CPU times of podman leave out
processes that outlive it.
"""
_YOUNG: Final = 3.0
"""Seconds. What was written a moment ago is not remembered."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures klock's start beside Python's and podman's.")
    parser.add_argument("--runs", type=int, default=9, metavar="N", help="rounds (default: 9)")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="where to write the result, besides stdout")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="a folder on a disk with room")
    arguments = parser.parse_args()
    # podman allows no more than 50 letters for the folder of its sockets.
    folder = Path(tempfile.mkdtemp(prefix="k", dir=arguments.work))
    try:
        results = _measured(folder, rounds=arguments.runs)
    except (CallError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
    finally:
        subprocess.run(["umount", str(folder / "p/root/overlay")], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
    page = "\n".join([heading("Start", arguments.runs, [["podman", "--version"]]), WORDS, table("Start", results)])
    print(page, end="")
    if arguments.output:
        arguments.output.write_text(page, "utf-8")


def _measured(folder: Path, *, rounds: int) -> list[tuple[Pair, Taken]]:
    project = folder / "project"
    project.mkdir()
    write_small_base(project / "layout")
    (project / "kimage.py").write_text(IMAGE)
    (folder / "p").mkdir()
    variables: dict[str, str | None] = {
        "KLOCK_CACHE_DIR": str(folder / "store"),
        # klock as it is installed: its modules are compiled once.
        "PYTHONDONTWRITEBYTECODE": None,
        **podman_settings(folder / "p"),
    }
    klock = str(Path(sys.executable).with_name("klock"))
    for words in (("lock", "-q"), ("sync", "-q"), ("sync", "-q", "--engine", "podman")):
        measure(Call(argv=(klock, *words), cwd=project, variables=variables))
    image = _image(Call(argv=("podman", "images", "--quiet"), cwd=project, variables=variables))
    results = []
    for pair in _pairs(klock, image, project, variables):
        time.sleep(_YOUNG)
        results.append((pair, taken(pair, rounds)))
    return results


def _image(call: Call) -> str:
    import os

    environment = {name: value for name, value in {**os.environ, **call.variables}.items() if value is not None}
    found = subprocess.run(call.argv, env=environment, capture_output=True, text=True, check=True).stdout.split()
    if len(set(found)) != 1:
        raise CallError(f"podman has {len(found)} images")
    return found[0]


def _pairs(klock: str, image: str, project: Path, variables: dict[str, str | None]) -> list[Pair]:
    def of(*argv: str) -> Callable[[int], Call]:
        return lambda _: Call(argv=argv, cwd=project, variables=variables)

    python = of(sys.executable, "-I", "-S", "-c", "pass")
    podman = of("podman", "run", "--rm", "--network=none", image, "true")
    own, run = "python", "podman run true"
    tab = {"_KLOCK_COMPLETE": "bash_complete", "COMP_WORDS": "klock why P", "COMP_CWORD": "2"}
    return [
        Pair(klock="--version", other=own, aim=1.6, call=of(klock, "--version"), beside=python),
        Pair(klock="--help", other=own, aim=1.6, call=of(klock, "--help"), beside=python),
        Pair(
            klock="why P, and Tab",
            other=own,
            aim=1.6,
            call=lambda _: Call(argv=(klock,), cwd=project, variables={**variables, **tab}),
            beside=python,
        ),
        Pair(klock="lock, remembered", other=own, aim=None, call=of(klock, "lock"), beside=python),
        Pair(klock="sync, remembered", other=own, aim=None, call=of(klock, "sync"), beside=python),
        Pair(klock="check, remembered", other=own, aim=None, call=of(klock, "check"), beside=python),
        Pair(klock="run true", other=run, aim=0.5, call=of(klock, "run", "true"), beside=podman),
        Pair(
            klock="run --no-sync true",
            other=run,
            aim=0.5,
            call=of(klock, "run", "--no-sync", "true"),
            beside=podman,
        ),
    ]


if __name__ == "__main__":
    main()
