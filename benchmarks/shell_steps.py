"""Records the shell steps people write, replays them, and says which of them make the same layer.

    python benchmarks/shell_steps.py --output docs/shell-steps.md --results FILE [--only WORD ...] [--work FOLDER]

Each step is recorded as root, and replayed: with other settings of klock's own process; with a clock that is 800 days
ahead; and by an account without privileges, with a store of its own. Needs root, the account and interpreter that
`make test` makes, and mmdebstrap and libfaketime. It takes an hour: with `--results` what was measured is kept, and a
step that has not changed since is not run again.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, NoReturn

REPOSITORY: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from benchmarks.shell_commands import GROUPS, SHOWN, TOOLS  # noqa: E402
from benchmarks.shell_step import ShellStep  # noqa: E402
from benchmarks.shell_step_run import Request, Result  # noqa: E402
from klock.layers import NORMALISATION  # noqa: E402
from klock.layers.differences import Difference, explain  # noqa: E402
from klock.layers.manifest import Manifest  # noqa: E402
from klock.store import Store  # noqa: E402
from klock.workshop.scratch import remove_trees  # noqa: E402
from klock.workshop.trees import Trees  # noqa: E402
from tests.integration.unprivileged import Account, root_account, unprivileged_account  # noqa: E402

SUITE: Final = "bookworm"
PACKAGES: Final = "python3,python3-venv,python3-pip,ca-certificates"
BEGIN: Final = "<!-- made by benchmarks/shell_steps.py: begin -->\n"
END: Final = "<!-- made by benchmarks/shell_steps.py: end -->\n"
DAYS: Final = 800
CLOCKS: Final = (f"/usr/lib/{platform.machine()}-linux-gnu/faketime/libfaketime.so.1",)
MOST_PATHS: Final = 2


class Run(Enum):
    """The runs of a step: the first is recorded, the others are replayed with its answers."""

    FIRST = "first"
    AGAIN = "again"
    LATER = "later"
    UNPRIVILEGED = "unprivileged"


SETTINGS: Final[Mapping[Run, tuple[str, Mapping[str, str]]]] = {
    Run.FIRST: ("022", {"LANG": "C.UTF-8"}),
    Run.AGAIN: ("077", {"LC_ALL": "C", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "2"}),
    Run.LATER: ("022", {"LANG": "C.UTF-8"}),
    Run.UNPRIVILEGED: ("027", {"LC_ALL": "POSIX", "TZ": "America/New_York", "PYTHONHASHSEED": "3"}),
}
"""Umask and variables of klock's own process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An account and its store."""

    account: Account
    store: Path

    def layer(self, digest: str) -> Path:
        return Trees(Store(self.store)).layer(digest)

    def manifest(self, digest: str) -> Manifest:
        return Manifest.from_bytes((self.layer(digest) / "manifest").read_bytes())


@dataclass(frozen=True, slots=True, kw_only=True)
class Laboratory:
    base: Path
    base_digest: str
    clock: Path
    shared: Path
    root: Place
    unprivileged: Place

    def place(self, run: Run) -> Place:
        return self.unprivileged if run is Run.UNPRIVILEGED else self.root

    def run(self, step: ShellStep, run: Run) -> Result:
        place = self.place(run)
        umask, variables = SETTINGS[run]
        tape = self.shared / f"{hashlib.sha256(step.name.encode()).hexdigest()}.json"
        request = Request(
            store=str(place.store),
            base=str(self.base),
            base_digest=self.base_digest,
            scripts=(*(TOOLS[name] for name in step.tools), step.script),
            tape=str(tape),
            blobs=str(self.shared),
            clock=str(self.clock) if run is Run.LATER and step.clock else None,
            days=DAYS,
            leave_out=step.leave_out,
        )
        argv: list[str | Path] = ["sh", "-c", f'umask {umask}; exec "$0" -m benchmarks.shell_step_run']
        try:
            done = place.account.run(
                [*argv, place.account.python],
                cwd=place.account.folder,
                env=variables,
                text_input=json.dumps(asdict(request)),
            )
        except subprocess.TimeoutExpired as error:
            return Result(layer=None, output=str(error))
        if done.returncode != 0:
            return Result(layer=None, output=done.stderr[-2000:])
        if run is Run.FIRST:
            self._share(tape)
        return Result(**json.loads(done.stdout))

    def _share(self, tape: Path) -> None:
        """Lets the other account read what was recorded."""
        if not tape.exists():
            return
        tape.chmod(0o644)
        for digest in {request.get("sha256") for request in json.loads(tape.read_bytes())["requests"]} - {None}:
            blob = Store(self.root.store).find_blob(f"sha256:{digest}")
            if blob and not (self.shared / digest).exists():
                shutil.copy(blob, self.shared / digest)
                (self.shared / digest).chmod(0o644)

    def differences(self, run: Run, first: str, other: str) -> list[Difference]:
        """Where the layer of a run differs from the first one."""
        places = (self.root.layer(first), self.place(run).layer(other))

        def read(which: int, path: str) -> bytes | None:
            file = places[which] / "root" / path
            return file.read_bytes() if file.is_file() and not file.is_symlink() else None

        return explain(self.root.manifest(first), self.place(run).manifest(other), read)

    def forget(self, results: Mapping[Run, Result]) -> None:
        """Removes the layers: those of all steps would fill a disk."""
        remove_trees([self.place(run).layer(made.layer) for run, made in results.items() if made.layer])


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    step: ShellStep
    results: Mapping[Run, Result]
    differences: Sequence[Difference]

    def cell(self, run: Run) -> str:
        first, other = self.results[Run.FIRST].layer, self.results[run].layer
        if first is None or other is None:
            return "failed"
        return "yes" if first == other else "**no**"

    @property
    def complete(self) -> bool:
        return all(result.layer is not None for result in self.results.values())

    @property
    def repeats(self) -> bool:
        return all(self.cell(run) == "yes" for run in Run)

    @property
    def remarks(self) -> str:
        paths = [f"`/{d.path}`" + (f" ({d.reason})" if d.reason else "") for d in self.differences]
        more = f" and {len(paths) - MOST_PATHS} more" if len(paths) > MOST_PATHS else ""
        where = ", ".join(paths[:MOST_PATHS]) + more
        return "; ".join(filter(None, (where, "" if self.repeats else self.step.remark)))


class Notes:
    """What was measured in this run and in earlier ones, in a file of JSON if there is one."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._known: dict[str, dict[str, Any]] = json.loads(file.read_bytes()) if file and file.exists() else {}

    def find(self, step: ShellStep) -> Measured | None:
        if (known := self._known.get(_key_of(step))) is None:
            return None
        results = {Run(name): Result(**result) for name, result in known["results"].items()}
        return Measured(step=step, results=results, differences=[Difference(**each) for each in known["differences"]])

    def keep(self, measured: Measured) -> None:
        results = {run.value: asdict(result) for run, result in measured.results.items()}
        known = {"step": measured.step.name, "results": results, "differences": list(map(asdict, measured.differences))}
        self._known[_key_of(measured.step)] = known
        if self._file:
            self._file.write_text(json.dumps(self._known, indent=1) + "\n", "utf-8")


def _key_of(step: ShellStep) -> str:
    """The same for a step whose layers are the same, as far as this script can tell."""
    parts = [step.name, step.script, [TOOLS[name] for name in step.tools], step.leave_out, SUITE, NORMALISATION]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description="Says which shell steps make the same layer each time.")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="a page with the two marker lines")
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="steps whose name holds a word")
    parser.add_argument("--results", type=Path, metavar="FILE.json", help="keeps what was measured, and takes it over")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="a folder on a disk with 10 GB")
    parser.add_argument("--clock", type=Path, metavar="LIBRARY", help="libfaketime.so.1")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        _stop("this needs root, to run steps as root and as another account")
    clock = arguments.clock or next((path for path in map(Path, CLOCKS) if path.exists()), None)
    if clock is None or shutil.which("mmdebstrap") is None:
        _stop("programs are missing\n\nhint: as root: apt-get install --no-install-recommends faketime mmdebstrap")
    folder = Path(tempfile.mkdtemp(prefix="klock-", dir=arguments.work))
    folder.chmod(0o755)
    try:
        measured = _measure(_laboratory(folder, clock), arguments.only, Notes(arguments.results))
    finally:
        shutil.rmtree(folder)
    page = _render(measured)
    print(page, end="")
    if arguments.output:
        _insert(page, arguments.output)


def _laboratory(folder: Path, clock: Path) -> Laboratory:
    source = folder / "source"
    for package in ("klock", "benchmarks"):
        shutil.copytree(REPOSITORY / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    base, library, shared = folder / "base.tar", folder / "clock.so", folder / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    shutil.copy(clock, library)
    recipe = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}"]
    recipe += ["--keyring=/usr/share/keyrings/debian-archive-keyring.gpg"]
    # mmdebstrap copies these from the host.
    recipe += ["--customize-hook=: > $1/etc/resolv.conf; : > $1/etc/hostname", SUITE, str(base)]
    _say("making the base")
    subprocess.run(recipe, env=os.environ | {"SOURCE_DATE_EPOCH": "1700000000"}, check=True)
    for path in [*source.rglob("*"), source, base, library]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    with base.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    places = []
    for make in (root_account, unprivileged_account):
        home = folder / make.__name__
        home.mkdir()
        account = make(source, home)
        places.append(Place(account=account, store=home / "store"))
    root, unprivileged = places
    return Laboratory(
        base=base, base_digest=f"sha256:{digest}", clock=library, shared=shared, root=root, unprivileged=unprivileged
    )


def _measure(laboratory: Laboratory, words: Sequence[str], notes: Notes) -> dict[str, list[Measured]]:
    groups = {
        heading: [step for step in steps if any(word in step.name for word in words)]
        for heading, steps in GROUPS.items()
    }
    with ThreadPoolExecutor(1) as besides:
        return {
            heading: [notes.find(step) or _measure_step(laboratory, step, besides, notes) for step in steps]
            for heading, steps in groups.items()
            if steps
        }


def _measure_step(laboratory: Laboratory, step: ShellStep, besides: ThreadPoolExecutor, notes: Notes) -> Measured:
    results = {Run.FIRST: laboratory.run(step, Run.FIRST)}
    time.sleep(1.1)  # not in the same second: many times are whole seconds
    unprivileged = besides.submit(laboratory.run, step, Run.UNPRIVILEGED)
    results |= {run: laboratory.run(step, run) for run in (Run.AGAIN, Run.LATER)}
    results[Run.UNPRIVILEGED] = unprivileged.result()
    first = results[Run.FIRST].layer
    differing = [(run, result.layer) for run, result in results.items() if result.layer and result.layer != first]
    differences = laboratory.differences(differing[0][0], first, differing[0][1]) if first and differing else []
    measured = Measured(step=step, results=results, differences=differences)
    laboratory.forget(results)
    _say(f"{step.name}: {', '.join(f'{run.value} {measured.cell(run)}' for run in Run)}")
    for run, result in results.items():
        if result.layer is None:
            _say(f"  {run.value} failed:\n{result.output}")
    if measured.complete:
        notes.keep(measured)
    return measured


def _render(groups: Mapping[str, Sequence[Measured]]) -> str:
    return "\n".join(_lines(groups)) + "\n"


def _lines(groups: Mapping[str, Sequence[Measured]]) -> Iterator[str]:
    all_steps = [measured for group in groups.values() for measured in group]
    real = [measured for heading, group in groups.items() if heading != SHOWN for measured in group]
    counts = [(sum(measured.repeats for measured in steps), len(steps)) for steps in (all_steps, real)]
    bubblewrap = subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    today = datetime.datetime.now(datetime.UTC).date()
    yield (
        f"{today}: Debian {SUITE}, Linux {platform.release().partition('-')[0]}, bubblewrap {bubblewrap}, version "
        f"{NORMALISATION} of the rules. {counts[0][0]} of {counts[0][1]} steps make one layer in all runs; without the "
        f"last heading, which shows what does not repeat, {counts[1][0]} of {counts[1][1]}. Two steps fail under "
        "the library that sets the clock, so they ran with this machine's clock."
    )
    yield ""
    yield f"| step | replayed | +{DAYS} days | root = unprivileged | what differs |"
    yield "|---|---|---|---|---|"
    for heading, group in groups.items():
        yield f"| **{heading}** | | | | |"
        for measured in group:
            cells = [measured.cell(run) for run in (Run.AGAIN, Run.LATER, Run.UNPRIVILEGED)]
            if not measured.step.clock:
                cells[1] += " (no other clock)"
            yield f"| {measured.step.name} | {' | '.join(cells)} | {measured.remarks} |"


def _insert(table: str, page: Path) -> None:
    """Replaces what is between the page's marker lines."""
    text = page.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        _stop(f"{page} lacks the lines {BEGIN}{END}")
    page.write_text(f"{before}{begin}\n{table}\n{end}{after}", "utf-8")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _stop(message: str) -> NoReturn:
    raise SystemExit(f"error: {message}")


if __name__ == "__main__":
    main()
