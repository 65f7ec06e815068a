"""When uv resolves on this machine instead of inside the environment: never where it could answer otherwise, or ask
whom the user did not name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from klock.lockfile.model import Interpreter
from klock.packages import PipRequest, Question, ScopedRequirement, TargetPython, World
from klock.packages.composing import Case, compose
from klock.packages.indexes import Index, IndexSettings, ScopePlan
from klock.packages.platform_tags import markers_of, tags_of
from klock.packages.roots import read_roots
from klock.packages.uv_outside import lies_inside, may_run_outside, run_uv_outside
from klock.store import Store
from klock.workshop.protocol import Workspace

CONSTRAINTS = {"/constraints.txt": b"torch==2.4\n", "/odd.txt": b"torch @ file:///wheels/torch.whl\n"}


class Files:
    """All that is asked of a workspace here."""

    known = None

    def read(self, path: str) -> bytes | None:
        return CONSTRAINTS.get(path)


def python(version: str = "3.11.2", libc: str = "glibc 2.36", **changes: Any) -> TargetPython:
    release = (3, int(version.split(".")[1]))
    interpreter = Interpreter(
        path="/usr/bin/python3", version=version, implementation="cpython", libc=libc, sha256="0" * 64, distributions=()
    )
    found = TargetPython(
        interpreter=interpreter,
        markers=markers_of(version, "x86_64"),
        tags=tags_of(release, threads="", machine="x86_64", libc=libc),
        installed=(),
    )
    return replace(found, **changes)


def case(
    folder: Path,
    *texts: str,
    of: TargetPython | None = None,
    variables: Mapping[str, str] | None = None,
    base: Mapping[str, str] | None = None,
    offline: bool = False,
    settings: IndexSettings | None = None,
    question: Question | None = None,
) -> Case:
    requirements = tuple(ScopedRequirement(text=text, origin="kimage.py:1") for text in texts or ("numpy",))
    request = PipRequest(
        requirements=requirements, environment={**(base or {}), **(variables or {})}, base=dict(base or {})
    )
    world = World(
        workspace=cast("Workspace", Files()), python=of or python(), store=Store(folder / "store"), offline=offline
    )
    default = Index(url="https://pypi.org/simple")
    return Case(
        world=world,
        question=question or Question(requests=(request,)),
        requests=(request,),
        roots=read_roots((request,)),
        plan=ScopePlan(shared=settings or IndexSettings(default=default), pins={}, fallbacks=()),
        preferences={},
        folder=folder,
        is_outside=True,
    )


FIT: dict[str, dict[str, Any]] = {
    "wheels of an index": {},
    "an old glibc": {"of": python(libc="glibc 2.28")},
    "musl": {"of": python(libc="musl 1.2")},
    "the user's own index": {"variables": {"PIP_EXTRA_INDEX_URL": "http://localhost:8080/simple"}},
    "constraints of the base": {"base": {"PIP_CONSTRAINT": "/constraints.txt"}},
    "other settings of the base": {"base": {"PIP_NO_CACHE_DIR": "1", "UV_SYSTEM_PYTHON": "1"}},
}
UNFIT: dict[str, dict[str, Any]] = {
    "offline": {"offline": True},
    "a glibc that uv has no name for": {"of": python(libc="glibc 2.29")},
    "a musl that uv has no name for": {"of": python(libc="musl 1.1")},
    "no C library that is known": {"of": python(libc="")},
    "a Python that is not released": {"of": python(version="3.14.0rc1")},
    "a Python without the global lock": {
        "of": python(tags=tags_of((3, 11), threads="t", machine="x86_64", libc="glibc 2.36"))
    },
    "another implementation": {"of": python(markers={**python().markers, "implementation_name": "pypy"})},
    "uv's constraints in the environment": {"variables": {"UV_CONSTRAINT": "/constraints.txt"}},
    "constraints that lead into the environment": {"base": {"PIP_CONSTRAINT": "/odd.txt"}},
    "an index of the base": {"base": {"PIP_EXTRA_INDEX_URL": "http://169.254.169.254/simple"}},
    "links of the base": {"base": {"UV_FIND_LINKS": "/wheels"}},
    "links in the environment": {
        "settings": IndexSettings(default=None, find_links=(Index(url="file:///wheels", flat=True),))
    },
}


@pytest.mark.parametrize("facts", FIT.values(), ids=FIT)
def test_uv_runs_on_this_machine(facts: dict[str, Any], tmp_path: Path) -> None:
    assert may_run_outside(case(tmp_path, **facts))


@pytest.mark.parametrize("facts", UNFIT.values(), ids=UNFIT)
def test_uv_runs_in_the_environment(facts: dict[str, Any], tmp_path: Path) -> None:
    assert not may_run_outside(case(tmp_path, **facts))


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("numpy>=2; python_version > '3.8'", True),
        ("numpy @ https://host/numpy-1-py3-none-any.whl", True),
        ("https://host/numpy-1-py3-none-any.whl", True),
        ("numpy @ file:///wheels/numpy-1-py3-none-any.whl", False),
        ("file:///wheels/numpy-1-py3-none-any.whl", False),
        ("there @ git+https://host/there", False),
        ("git+https://host/there@main", False),
    ],
)
def test_what_lies_in_the_environment_or_is_cloned_by_its_git(text: str, fits: bool, tmp_path: Path) -> None:
    assert may_run_outside(case(tmp_path, text)) is fits


@pytest.mark.parametrize(
    ("question", "left"),
    [
        (Question(requests=()), ["numpy", "ruamel-yaml"]),
        (Question(requests=(), upgrade=True), []),
        (Question(requests=(), upgrade_packages=frozenset({"Ruamel.YAML"})), ["numpy"]),
    ],
)
def test_what_is_to_move_is_asked_for_anew(question: Question, left: list[str], tmp_path: Path) -> None:
    """uv's own `--refresh` would ask the Python anew, too, which it may not start."""
    asked = case(tmp_path, question=question)
    project = compose(asked, kept=(), promoted={})
    pages = asked.world.store.root / "resolver/simple-v28/index/0123"
    pages.mkdir(parents=True)
    for name in ("numpy", "ruamel-yaml"):
        (pages / f"{name}.rkyv").touch()
    arguments = ["--version"]
    ran = run_uv_outside(
        arguments, work=asked.folder, world=asked.world, more={}, must_be_alone=False, refresh=project.refresh
    )
    assert ran.output.startswith("uv ")
    assert sorted(page.stem for page in pages.iterdir()) == left
    assert not [word for word in project.arguments(python="/usr/bin/python3") if word.startswith("--refresh")]


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"variables": {"UV_CONSTRAINT": "/etc/shadow"}}, "the variable UV_CONSTRAINT = /etc/shadow"),
        ({"base": {"PIP_CONSTRAINT": "/odd.txt"}}, "odd.txt"),
        ({"settings": IndexSettings(default=None, find_links=(Index(url="file:///w", flat=True),))}, "file:///w"),
        ({}, ""),
    ],
)
def test_what_uv_would_read_of_this_machine_is_named(facts: dict[str, Any], what: str, tmp_path: Path) -> None:
    found = lies_inside(case(tmp_path, **facts))
    assert what in found and bool(found) is bool(what)
