"""Runs uv on this machine, where it resolves for a Python that it cannot ask: quickly, and with a cache that lasts.

uv starts no program here: the kernel refuses it (`klock.workshop.lone`). So no code of a package runs, and what is in
the cache is what uv itself has read from the indexes: no package has a say in what another one gets. Where something
has to be built uv fails, and is asked once more inside the environment, with a cache that is thrown away.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from klock.digests import digest_of_json, hex_of
from klock.packages.composing import Case, all_constraints, overrides_in
from klock.packages.platform_tags import markers_of, tags_of, uv_platform
from klock.packages.question import World
from klock.packages.uv import UvRun, fixed_variables
from klock.uv_program import uv_program
from klock.workshop.lone import run_alone

__all__ = ["lies_inside", "may_run_outside", "run_uv_outside"]

_FAILED: Final = UvRun(status=-1, output="")
_KEPT: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_READS_FILES: Final = ("UV_CONSTRAINT", "UV_OVERRIDE", "UV_BUILD_CONSTRAINT")
_NAMES_SERVERS: Final = re.compile(r"(UV|PIP)_.*(INDEX|FIND_LINKS|TORCH_BACKEND).*")
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")
_AT: Final = re.compile(r"@(?!\s*https?://)")
_RELEASE: Final = re.compile(r"\d+\.\d+\.\d+")


def may_run_outside(case: Case) -> bool:
    """Whether uv gives the same answer here as inside the environment, and asks no other servers.

    uv has to know of the environment's Python what it would find out there. Nothing that is asked for may lie in the
    environment. And the base may name no servers: a base is not the user's word for whom to ask.
    """
    world = case.world
    if world.offline or not sys.executable or not _is_known_to_uv(world):
        return False
    if lies_inside(case):
        return False
    for request in case.requests:
        if any(_NAMES_SERVERS.fullmatch(n) and request.environment.get(n) == v for n, v in request.base.items()):
            return False
    return True


def lies_inside(case: Case) -> str:
    """What uv would read from files of the environment, or have its programs fetch: uv on this machine would read this
    machine's. It is named with where it is from; empty for nothing."""
    for request in case.requests:
        for name in _READS_FILES:
            if name in request.environment:
                return f"the variable {name} = {request.environment[name]}"
    for each in (*(root.scoped for root in case.roots), *overrides_in(case), *all_constraints(case)):
        if _AT.search(each.text) or each.text.startswith((".", "/")) or not _is_of_the_web(each.text):
            return f"{each.origin}: {each.text}"
    settings = case.plan.shared
    default = [settings.default] if settings.default else []
    indexes = (*settings.extras, *default, *settings.find_links, *case.plan.pins.values(), *case.plan.fallbacks)
    for index in indexes:
        url = case.world.mirrors.towards(index.url)
        if not _URL.match(url) or not _is_of_the_web(url):
            return f"the index {url}"
    return ""


def _is_of_the_web(text: str) -> bool:
    """Whether all URLs in it are of http and https."""
    return {match[1].lower() for match in _URL.finditer(text)} <= {"http", "https"}


def _is_known_to_uv(world: World) -> bool:
    """Whether a version and a platform, as uv has them, say all of this Python that decides what fits it."""
    python = world.python
    version, libc = python.interpreter.version, python.interpreter.libc
    machine = python.markers.get("platform_machine", "")
    if not _RELEASE.fullmatch(version) or not libc:
        return False
    name, _, libc_version = libc.partition(" ")
    platform = uv_platform(machine, libc)
    if not (platform.endswith(f"_{libc_version.replace('.', '_')}") if name == "glibc" else libc_version == "1.2"):
        return False
    major, minor = version.split(".")[:2]
    tags = tags_of((int(major), int(minor)), threads="", machine=machine, libc=libc)
    return python.markers == markers_of(version, machine) and set(python.tags) == set(tags)


def run_uv_outside(
    arguments: Sequence[str],
    *,
    work: Path,
    world: World,
    more: Mapping[str, str],
    must_be_alone: bool,
    refresh: Sequence[str] = (),
) -> UvRun:
    """Runs `uv ARGUMENTS` in `work`. Without `must_be_alone` the arguments see to it that nothing is built, and uv runs
    on a kernel that cannot confine it, too. `refresh` names projects whose pages are asked for anew, `:all:` for all.
    """
    cache = world.store.root / "resolver"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    _forget_pages(cache, refresh)
    for name in ("home", "tmp"):
        (work / name).mkdir(exist_ok=True)
    kept = {n: v for name in _KEPT for n in (name, name.lower()) if (v := world.environ.get(n)) is not None}
    if world.ca_bundle is not None:
        kept["SSL_CERT_FILE"] = os.fspath(world.ca_bundle)
    fixed = {**fixed_variables(os.fspath(work)), "UV_CACHE_DIR": os.fspath(cache), "PATH": os.defpath}
    variables = {**kept, **fixed, **more}
    _have_python_known(cache, variables)
    ended = run_alone(uv_program(), arguments, folder=work, environment=variables)
    if ended is not None:
        return UvRun(status=ended.status, output=ended.output.decode("utf-8", "replace"))
    if must_be_alone:
        return _FAILED
    done = subprocess.run(
        [uv_program(), *arguments],
        cwd=work,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return UvRun(status=done.returncode, output=done.stdout.decode("utf-8", "replace"))


def _forget_pages(cache: Path, names: Sequence[str]) -> None:
    """Removes indexes' pages from uv's cache. Where a later uv keeps them elsewhere, pages of some minutes ago do."""
    for name in names:
        for page in cache.glob("simple-v*/**/*.rkyv" if name == ":all:" else f"simple-v*/**/{name}.rkyv"):
            page.unlink(missing_ok=True)


def _have_python_known(cache: Path, variables: Mapping[str, str]) -> None:
    """Has uv ask klock's own Python what it is, which it keeps in its cache: later it could not start it."""
    programs = [uv_program(), Path(sys.executable).resolve()]
    facts = [[os.fspath(path), path.stat().st_mtime_ns, path.stat().st_size] for path in programs]
    # uv knows a Python by the path that it is called by.
    mark = cache / f"python-{hex_of(digest_of_json([sys.executable, *facts]))[:32]}"
    if mark.exists():
        return
    empty = cache / "nothing.in"
    empty.touch()
    done = subprocess.run(
        [uv_program(), "pip", "compile", "--offline", "--quiet", "--python", sys.executable, empty],
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode == 0:
        mark.touch()
