"""What a change of packages costs: klock beside uv, in one run, as ratios.

    python benchmarks/packages.py --base DIR [--set basic|large|FILE] [--rounds 5] [--cold 5] [--output FILE.md]

`--base` is an OCI layout folder of a base with Python. Wheels come from the index that pip would take, once; then each
tool has them in a cache of its own. Of each operation the tools take turns, and who begins changes from round to round.
A ratio is the median of the ratios of samples that follow each other. uv's virtual environment is made of the base's
Python version by uv.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.stopwatch import Call, Sample, measure

BASIC: Final = ("numpy>=1.24", "pandas>=2.0", "scikit-learn", "matplotlib")
LARGE: Final = (
    *BASIC,
    *("scipy", "sympy", "networkx", "transformers", "datasets", "tokenizers", "sentencepiece"),
    *("jupyterlab", "notebook", "ipywidgets", "seaborn", "plotly", "bokeh", "statsmodels", "xgboost-cpu", "lightgbm"),
    *("fastapi", "uvicorn", "httpx", "aiohttp", "sqlalchemy", "alembic", "pydantic", "celery", "redis", "boto3"),
    *("dask[complete]", "polars", "pyarrow", "opencv-python-headless", "pillow", "nltk", "spacy", "gensim", "mlflow"),
)
"""More than 200 distributions; what needs torch is measured by itself."""
MORE: Final = ("tabulate", "humanize", "toolz", "colorama", "sortedcontainers", "wcwidth", "texttable", "inflection")
"""A small requirement to add in each round: no cache has its tree yet."""

_YOUNG: Final = 3.0
"""Seconds."""
_FORGOTTEN: Final = 65.0
"""Seconds, after which ext4 takes the inodes of removed files again without looking at each (`recently_deleted`)."""

Rows = dict[str, dict[str, list[Sample]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, required=True, metavar="DIR", help="an OCI layout folder with Python")
    parser.add_argument("--set", default="basic", metavar="NAME", help="basic, large, or a requirements file")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--cold", type=int, metavar="N", help="how many rounds lay out and compile every wheel, too")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), metavar="DIR", help="on a disk with 20 GB")
    parser.add_argument("--output", type=Path, metavar="FILE.md")
    arguments = parser.parse_args()
    sets = {"basic": BASIC, "large": LARGE}
    wanted = sets.get(arguments.set) or tuple(Path(arguments.set).read_text("utf-8").split())
    with tempfile.TemporaryDirectory(prefix="klock-packages-", dir=arguments.work.resolve()) as folder:
        rounds = min(arguments.rounds, len(MORE))
        cold = rounds if arguments.cold is None else arguments.cold
        page = _Run(Path(folder), arguments.base.resolve(), wanted, cold=cold).measured(rounds)
    print(page, end="")
    if arguments.output:
        arguments.output.write_text(page, "utf-8")


class _Run:
    def __init__(self, folder: Path, base: Path, wanted: tuple[str, ...], *, cold: int) -> None:
        self.folder, self.base, self.wanted, self.cold = folder, base, wanted, cold
        self.program = str(Path(sys.executable).with_name("klock"))
        self.uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
        self.project, self.cache = folder / "project", folder / "uv-cache"
        self.project.mkdir()
        self.rows: Rows = {}
        self.klock_begins = True

    # -- the tools

    def klock(self, *words: str, store: str = "store") -> Call:
        variables = {
            "KLOCK_CACHE_DIR": str(self.folder / store),
            # klock's own bytecode is there, as after the first start of an installed klock.
            "PYTHONDONTWRITEBYTECODE": None,
            "PYTHONPYCACHEPREFIX": str(self.folder / "bytecode"),
        }
        return Call(argv=(self.program, *words, "-q"), cwd=self.project, variables=variables)

    def uv_call(self, *words: str) -> Call:
        variables = {"UV_CACHE_DIR": str(self.cache), "UV_NO_CONFIG": "1", "VIRTUAL_ENV": None}
        return Call(argv=(self.uv, *words), cwd=self.project, variables=variables)

    def write(self, *more: str) -> None:
        lines = [*self.wanted, *more]
        image = f'image = klock.Image().from_docker("oci:{self.base}").pip_install({lines!r})\n'
        (self.project / "kimage.py").write_text(f"import klock\n\n{image}")
        (self.project / "requirements.in").write_text("".join(f"{line}\n" for line in lines))

    def compile(self, output: str) -> Call:
        words = ("pip", "compile", "-q", "requirements.in", "-o", output, "--generate-hashes", "--python-version")
        return self.uv_call(*words, self.python)

    def sync(self, requirements: str, venv: str, *options: str) -> Call:
        return self.uv_call("pip", "sync", "-q", "--python", f"{venv}/bin/python", *options, requirements)

    def venv(self, name: str) -> None:
        shutil.rmtree(self.project / name, ignore_errors=True)
        measure(self.uv_call("venv", "-q", "--python", self.python, name))

    # -- the operations

    def measured(self, rounds: int) -> str:
        from klock.lockfile import read

        self.write()
        _say("warming up: one lock and sync")
        measure(self.klock("lock"))
        measure(self.klock("sync"))
        lock = read(self.project / "kimage.lock")
        assert lock is not None and lock.targets[0].interpreter is not None
        self.python = lock.targets[0].interpreter.version.rpartition(".")[0]
        packages = len(lock.targets[0].packages)
        measure(self.compile("requirements.txt"))
        self.venv("venv")
        measure(self.sync("requirements.txt", "venv"))
        (self.folder / "locks").mkdir()
        shutil.copy(self.project / "kimage.lock", self.folder / "locks/first")
        for number in range(rounds):
            _say(f"round {number + 1} of {rounds}")
            self._round(number)
            _say(self._page(number + 1, packages, {}))
        used = {
            "klock's blobs": _bytes_of(self.folder / "store/blobs"),
            "klock's trees, without the base": _bytes_of(*(self.folder / "store/trees").glob("tree-*")),
            "uv's cache": _bytes_of(self.cache),
            "a virtual environment of uv's, without bytecode": _bytes_of(self.project / "venv"),
        }
        return self._page(rounds, packages, used)

    def _round(self, number: int) -> None:
        more = MORE[number]
        self.klock_begins = number % 2 == 0
        # The wheel of what is added is known to both: only the change is measured.
        self.write()
        shutil.copy(self.folder / "locks/first", self.project / "kimage.lock")
        # A file that changed a moment ago says nothing by its times.
        time.sleep(_YOUNG)
        measure(self.klock("lock"))
        self.write()
        shutil.copy(self.folder / "locks/first", self.project / "kimage.lock")
        self.take("lock, the same image and lockfile written anew", self.klock("lock"), self._uv_lock_check())
        time.sleep(_YOUNG)
        measure(self.klock("lock"))
        self.take("lock, nothing changed since the last one", self.klock("lock"), self._uv_lock_check())
        self.write(more)
        self._know(more)
        self.take("lock, one requirement more, wheels known", self.klock("lock"), self.compile("changed.txt"))
        self.take("sync, one requirement more", self.klock("sync"), self.sync("changed.txt", "venv"))
        measure(self.sync("requirements.txt", "venv"))
        self.write()
        shutil.copy(self.folder / "locks/first", self.project / "kimage.lock")
        measure(self.klock("sync"))
        # Trees are known, the environment is not.
        measure(Call(argv=("rm", "-rf", str(self.folder / "store/environments")), cwd=self.folder))
        self.venv("again")
        self.take("environment removed and made again", self.klock("sync"), self.sync("requirements.txt", "again"))
        if number < self.cold:
            self._cold_round(number)

    def _cold_round(self, number: int) -> None:
        """Wheels are local, nothing is laid out."""
        cold = f"cold-{number}"
        store = self.folder / cold
        shutil.copytree(self.folder / "store/blobs", store / "blobs", copy_function=os.link)
        self._unpack_base(cold)
        self.venv("cold")
        shutil.rmtree(self.folder / "cold-cache", ignore_errors=True)
        wheels = self._wheels_by_name()
        time.sleep(_FORGOTTEN)
        self.take(
            "sync, wheels local, nothing laid out",
            self.klock("sync", "--offline", store=cold),
            Call(
                argv=(
                    *(self.uv, "pip", "sync", "-q", "--python", "cold/bin/python", "--compile-bytecode", "--offline"),
                    *("--no-index", "--find-links", str(wheels), str(wheels / "all.txt")),
                ),
                cwd=self.project,
                variables={"UV_CACHE_DIR": str(self.folder / "cold-cache"), "UV_NO_CONFIG": "1", "VIRTUAL_ENV": None},
            ),
        )
        _remove(store)

    def _know(self, name: str) -> None:
        """Has both tools fetch the wheel of what is added, and nothing more."""
        image = f'image = klock.Image().from_docker("oci:{self.base}").pip_install(["{name}"])\n'
        (self.project / "other").mkdir(exist_ok=True)
        (self.project / "other/kimage.py").write_text(f"import klock\n\n{image}")
        call = self.klock("lock", "other/kimage.py")
        measure(call)
        self.venv("other-venv")
        measure(self.uv_call("pip", "install", "-q", "--python", "other-venv/bin/python", name))

    def _uv_lock_check(self) -> Call:
        folder = self.project / "uv-project"
        if not folder.exists():
            folder.mkdir()
            names = ", ".join(f'"{line}"' for line in self.wanted)
            text = f'[project]\nname = "p"\nversion = "0"\nrequires-python = "=={self.python}.*"\n'
            text += f"dependencies = [{names}]\n"
            (folder / "pyproject.toml").write_text(text)
            measure(self.uv_call("lock", "-q", "--directory", str(folder)))
        return self.uv_call("lock", "-q", "--check", "--directory", str(folder))

    def _unpack_base(self, store: str) -> None:
        """The base alone: uv has its Python already, too."""
        folder = self.project / "base"
        folder.mkdir(exist_ok=True)
        (folder / "kimage.py").write_text(f'import klock\n\nimage = klock.Image().from_docker("oci:{self.base}")\n')
        measure(self.klock("lock", "base/kimage.py", store=store))
        measure(self.klock("sync", "base/kimage.py", store=store))

    def _wheels_by_name(self) -> Path:
        """A folder of klock's wheels, and what they are as requirements: without hashes, for some were built here."""
        from klock.lockfile import read
        from klock.packages.wheels import wheel_of

        folder = self.folder / "wheels"
        if not folder.exists():
            folder.mkdir()
            lock = read(self.folder / "locks/first")
            assert lock is not None
            for package in lock.targets[0].packages:
                wheel = wheel_of(package)
                blob = self.folder / "store/blobs/sha256" / wheel.sha256[:2] / wheel.sha256
                os.link(blob, folder / wheel.name)
            pins = [package.pin for package in lock.targets[0].packages if not package.build_only]
            (folder / "all.txt").write_text("".join(f"{pin}\n" for pin in pins))
        return folder

    def take(self, name: str, *calls: Call) -> None:
        row = self.rows.setdefault(name, {"klock": [], "uv": []})
        each = list(zip(row, calls, strict=True))
        for tool, call in each if self.klock_begins else reversed(each):
            row[tool].append(measure(call))

    def _page(self, rounds: int, packages: int, used: dict[str, int]) -> str:
        lines = [
            f"# Packages: klock and uv\n\n{datetime.date.today().isoformat()}, {rounds} rounds, "
            f"{packages} distributions, {len(os.sched_getaffinity(0))} cores, {platform.machine()}, "
            f"load average {os.getloadavg()[2]:.1f}.\n",
            "| operation | klock, wall | uv, wall | ratio | klock, CPU | uv, CPU | ratio |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for name, row in self.rows.items():
            cells = [name]
            for figure in (_wall, _cpu):
                ours, theirs = ([figure(sample) for sample in row[tool]] for tool in ("klock", "uv"))
                ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
                cells += [f"{median(ours):.2f} s", f"{median(theirs):.2f} s", f"{ratio:.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", "| on the disk | MiB |", "| --- | ---: |"]
        lines += [f"| {name} | {size / 2**20:.0f} |" for name, size in used.items()]
        return "\n".join(lines) + "\n"


def _wall(sample: Sample) -> float:
    return sample.seconds


def _cpu(sample: Sample) -> float:
    return sample.cpu_seconds


def _bytes_of(*paths: Path) -> int:
    if not paths:
        return 0
    done = subprocess.run(["du", "-sk", "--total", *map(str, paths)], capture_output=True, text=True, check=False)
    return int(done.stdout.splitlines()[-1].split()[0]) * 1024


def _remove(folder: Path) -> None:
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def _say(words: str) -> None:
    print(words, file=sys.stderr)


if __name__ == "__main__":
    main()
