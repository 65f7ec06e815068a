"""Resolution by scenarios (`resolution_scenarios.toml`): what klock chooses is what pip and uv choose.

uv runs here on this machine's own Python, without the sandbox, which takes no part in the choice. That pip and uv
themselves give the same is tried by `make soak`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from packaging.markers import default_environment
from packaging.tags import sys_tags

from klock.errors import KlockError
from klock.image.requirement_lines import parse_line
from klock.lockfile.model import Interpreter
from klock.packages import PipRequest, Question, RequirementOptions, ScopedRequirement, TargetPython, World
from klock.packages.resolver import Answer, Resolver
from klock.packages.selection import SelectedFile
from klock.packages.uv import WORK
from klock.store import Store
from klock.uv_program import uv_program
from klock.workshop.protocol import Command, Completed, Mount, Workspace
from tests.integration.index_server import IndexServer, make_wheel

SCENARIOS: list[dict[str, Any]] = tomllib.loads(Path(__file__).with_name("resolution_scenarios.toml").read_text())[
    "scenario"
]
TAGS = {"{cp}": f"cp{sys.version_info.major}{sys.version_info.minor}", "{mach}": platform.machine()}
FILE = re.compile(
    r"(?P<name>\S+) (?P<version>[^\s-]+)(?:-(?P<build>\d+))?(?: (?P<tag>\S+-\S+-\S+))?(?P<yanked> yanked)?"
    r"(?: for (?P<python>\S+))?"
)


def written(text: str, places: dict[str, str]) -> str:
    for name, value in places.items():
        text = text.replace(name, value)
    return text


def filled(folder: Path, files: Sequence[str]) -> IndexServer:
    """An index of the files, which are made in `folder`."""
    folder.mkdir()
    yanked, pythons = {}, {}
    for line in files:
        about, _, requires = written(line, TAGS).partition(" : ")
        match = FILE.fullmatch(about)
        assert match is not None, line
        plain: list[str] = []
        extras: dict[str, list[str]] = {}
        for text in filter(None, requires.split(" | ")):
            extra = re.match(r"\[([\w.-]+)\] (.*)", text)
            if extra:
                name, _, marker = extra[2].partition("; ")
                extras.setdefault(extra[1], [])
                plain.append(
                    f"{name}; {marker} and extra == '{extra[1]}'" if marker else f"{name}; extra == '{extra[1]}'"
                )
            else:
                plain.append(text)
        path = make_wheel(
            folder,
            match["name"],
            match["version"],
            requires=plain,
            extras=extras,
            tag=match["tag"] or "py3-none-any",
            python=match["python"],
        )
        if match["build"]:
            name, version, *tag = path.name.split("-")
            path = path.rename(folder / "-".join([name, version, match["build"], *tag]))
        if match["yanked"]:
            yanked[path.name] = "bad"
        if match["python"]:
            pythons[path.name] = match["python"]
    return IndexServer(folder, yanked=yanked, pythons=pythons)


@dataclass
class Host:
    """What of a workspace uv needs, on this machine: the paths of a sandbox are those of the folders they show."""

    known: None = None

    def read(self, path: str) -> bytes | None:
        return Path(path).read_bytes() if Path(path).is_file() else None

    def run(self, command: Command, *, on_output: Callable[[bytes], None] | None = None) -> Completed:
        shown: list[Mount] = sorted(command.mounts, key=lambda mount: -len(mount.target))

        def here(text: str) -> str:
            return written(text, {mount.target: os.fspath(mount.source) for mount in shown})

        done = subprocess.run(
            [here(word) for word in command.argv],
            env={name: here(value) for name, value in command.environment.items()},
            cwd=here(command.working_dir or WORK),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if on_output is not None:
            on_output(done.stdout)
        return Completed(status=done.returncode, output=done.stdout)


class OnHost(Resolver):
    """Resolves without the recorder: the servers are this test's own."""

    @property
    def passes(self) -> None:
        return None

    def _check_answer(self, *_: object) -> None:
        """It compares the answer with what passed the recorder."""


@dataclass
class Case:
    scenario: dict[str, Any]
    folder: Path
    index: str
    extra: str | None

    def lines(self, key: str) -> list[str]:
        files = {"{files}": self.index.removesuffix("/simple/") + "/files", **TAGS}
        return [written(line, files) for line in self.scenario.get(key, ())]

    def file(self, key: str) -> Path:
        path = self.folder / f"{key}.txt"
        path.write_text("".join(f"{line}\n" for line in self.lines(key)))
        return path

    @property
    def wanted(self) -> dict[str, list[str]]:
        keys = [key for key in ("gives", "files") if key in self.scenario]
        return {key: [written(item, TAGS) for item in self.scenario[key]] for key in keys}


@contextmanager
def opened(scenario: dict[str, Any], folder: Path) -> Iterator[Case]:
    with (
        filled(folder / "index", scenario["index"]) as index,
        filled(folder / "extra", scenario.get("extra", ())) as extra,
    ):
        yield Case(scenario, folder, index.url, extra.url if "extra" in scenario else None)


def by_klock(case: Case) -> Answer:
    environment = {"PATH": os.environ["PATH"]}
    if case.extra:
        environment["UV_EXTRA_INDEX_URL"] = case.extra
    if "overrides" in case.scenario:
        environment["UV_OVERRIDE"] = os.fspath(case.file("overrides"))

    def scoped(key: str) -> tuple[ScopedRequirement, ...]:
        return tuple(
            ScopedRequirement.of(parsed) for line in case.lines(key) for parsed in parse_line(line, key).requirements
        )

    request = PipRequest(requirements=scoped("wanted"), constraints=scoped("constraints"), environment=environment)
    return answer_to(request, case)


def answer_to(request: PipRequest, case: Case) -> Answer:
    python = TargetPython(
        interpreter=Interpreter(path=sys.executable, version="", implementation="cpython", libc="", sha256=""),
        markers={name: str(value) for name, value in default_environment().items()},
        tags=tuple(map(str, sys_tags())),
        installed=(),
    )
    question = Question(requests=(request,), default_index=case.index)
    world = World(workspace=cast("Workspace", Host()), python=python, store=Store(case.folder / "store"))
    resolver = OnHost(world=world, question=question, credentials=question.collect_credentials(world), preferences={})
    return resolver.ask(question.requests)


def versions(pins: Sequence[str]) -> list[str]:
    return sorted(pin for pin in pins if pin)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario["says"] for scenario in SCENARIOS])
def test_klock_chooses(scenario: dict[str, Any], tmp_path: Path) -> None:
    with opened(scenario, tmp_path) as case:
        if "fails" in scenario:
            with pytest.raises(KlockError) as caught:
                by_klock(case)
            assert scenario["fails"] in caught.value.message
            return
        answer = by_klock(case)
        found = {
            "gives": [f"{package.name}=={package.version or _version(package.source)}" for package in answer.packages],
            "files": [cast("SelectedFile", package.source).name for package in answer.packages],
        }
        assert {key: found[key] for key in case.wanted} == case.wanted


LOCKED = {
    "from the index that the lock has for it": (["a==1.0", "c==1.0 from extra"], ["a==1.0", "c==1.0"]),
    "whatever others of the lock require": (["b==1.0", "c==1.0 from extra"], ["b==1.0", "c==1.0"]),
    "where other systems have it from elsewhere": (
        ["c==1.0; sys_platform == 'win32'", "c==1.0; sys_platform == 'linux' from extra"],
        ["c==1.0"],
    ),
    "where it is from elsewhere and others are not for here": (
        ["c==2.0; sys_platform == 'win32' from extra", "c==1.0; sys_platform != 'win32' from extra", "a==1.0"],
        ["a==1.0", "c==1.0"],
    ),
    "and what it requires is in the lock or is not needed": (["d==1.0"], ["d==1.0"]),
    "from its own file, where the lock names no index": (
        ["c==1.0 from extra by file", "d==1.0 by file"],
        ["c==1.0", "d==1.0"],
    ),
    "from its own file, whatever others of the lock require": (["b==1.0", "c==1.0 by file"], ["b==1.0", "c==1.0"]),
    "but for the extras that the lock has not": (["e==1.0", "e[x] unlocked"], ["c==2.0", "e==1.0"]),
}


@pytest.mark.parametrize("case", LOCKED)
def test_a_package_of_another_tools_lock(case: str, tmp_path: Path) -> None:
    lines, wanted = LOCKED[case]
    files = ["a 1.0", "b 1.0 : c>=2", "c 1.0", "c 2.0", "d 1.0 : nowhere", "e 1.0 : [x] c"]
    scenario = {"index": files, "extra": ["c 1.0 : a", "c 3.0"]}
    with opened(scenario, tmp_path) as given:
        request = PipRequest(requirements=tuple(_locked(line, given) for line in lines), environment={})
        answer = answer_to(request, given)
    assert [f"{package.name}=={package.version}" for package in answer.packages] == wanted


def _locked(line: str, case: Case) -> ScopedRequirement:
    """A line `REQUIREMENT [from extra] [by file] [unlocked]`, as a lock gives it: with the index, or the file, and the
    hash of the file."""
    text, _, index = line.removesuffix(" unlocked").removesuffix(" by file").partition(" from ")
    name, _, version = text.partition(";")[0].partition("==")
    files = [*(case.folder / (index or "index")).glob(f"{name}-{version}-*.whl")] if version else []
    server = (case.extra or "") if index else case.index
    by_file = line.endswith(" by file")
    return ScopedRequirement(
        text=text,
        origin="uv.lock",
        options=RequirementOptions(index_url=None if by_file else server),
        files=tuple(f"{server.removesuffix('/simple/')}/files/{file.name}" for file in files if by_file),
        hashes=tuple(f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files),
        is_locked=not line.endswith(" unlocked"),
    )


def _version(source: object) -> str:
    return cast("SelectedFile", source).name.split("-")[1]


@pytest.mark.soak
@pytest.mark.parametrize("installer", ["pip", "uv"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario["says"] for scenario in SCENARIOS])
def test_pip_and_uv_choose_the_same(scenario: dict[str, Any], installer: str, tmp_path: Path) -> None:
    if installer in scenario:
        return  # it is said why
    with opened(scenario, tmp_path) as case:
        pre = any(line.startswith("--pre ") for line in case.lines("wanted"))
        wanted = tmp_path / "wanted.txt"
        wanted.write_text("".join(line.removeprefix("--pre ") + "\n" for line in case.lines("wanted")))
        status, pins, files = (_pip if installer == "pip" else _uv)(case, wanted, pre=pre)
    assert (status != 0) == ("fails" in scenario)
    if "gives" in scenario:
        assert pins == versions(scenario["gives"])
    if "files" in scenario and installer == "pip":
        assert files == case.wanted["files"]


def _pip(case: Case, wanted: Path, *, pre: bool) -> tuple[int, list[str], list[str]]:
    report = case.folder / "report.json"
    command = [sys.executable, "-m", "pip", "--isolated", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--report", os.fspath(report), "-r", os.fspath(wanted)]
    command += ["--index-url", case.index, "-c", os.fspath(case.file("constraints"))]
    command += ["--extra-index-url", case.extra] if case.extra else []
    command += ["--pre"] if pre else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return done.returncode, [], []
    installed = json.loads(report.read_text())["install"]
    pins = [f"{i['metadata']['name'].lower().replace('.', '-')}=={i['metadata']['version']}" for i in installed]
    return 0, versions(pins), sorted(i["download_info"]["url"].rpartition("/")[2] for i in installed)


def _uv(case: Case, wanted: Path, *, pre: bool) -> tuple[int, list[str], list[str]]:
    command = [os.fspath(uv_program()), "pip", "compile", "--no-cache", "--no-config", "--no-header", "--no-annotate"]
    command += ["--quiet", "--python", sys.executable, "--default-index", case.index, os.fspath(wanted)]
    command += ["--constraints", os.fspath(case.file("constraints"))]
    command += ["--index", case.extra] if case.extra else []
    command += ["--overrides", os.fspath(case.file("overrides"))] if "overrides" in case.scenario else []
    command += ["--prerelease", "allow"] if pre else []
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tempfile.gettempdir())
    lines = [re.sub(r" @ .*/[^/]*?-([^-/]+)-[^/]*$", r"==\1", line) for line in done.stdout.splitlines()]
    return done.returncode, versions([re.sub(r"\[.*\]", "", line) for line in lines]), []
