"""The packages that specifications mean: those that rattler's solver chooses from the channels' lists."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from klock.errors import EngineError, KlockError, ResolutionError
from klock.extras import missing_extra_hint
from klock.lockfile.model import CondaPackage
from klock.values import dataclass

__all__ = ["Listed", "answer_question", "solve"]

_PROGRAM: Final = "import sys; sys.path[:0] = sys.argv[1:]; from klock.conda.solving import answer_question as a; a()"
_IMPORTABLE: Final = (os.fspath(Path(__file__).parents[2]),)
"""Where klock is, since the process takes no variable and no folder of its caller for a place of modules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """The list of packages of a channel's folder, in a file of this machine."""

    channel: str
    subdir: str
    file: Path


def solve(
    specs: Sequence[str],
    lists: Sequence[Listed],
    *,
    virtual: Mapping[str, str],
    preferred: Sequence[str] = (),
    installed: Sequence[str] = (),
) -> list[CondaPackage]:
    """The packages for `specs` (conda's match specifications), in the order in which they are to be installed.

    `virtual` are the versions of what the system has (`__glibc`). Of packages at the URLs `preferred` those are taken
    if they fit; those at `installed` are there and stay. Raises ResolutionError, and KlockError where klock's extra
    `conda` is missing.
    """
    if find_spec("rattler") is None:
        raise KlockError("to choose conda packages, klock needs rattler", hint=missing_extra_hint("conda"))
    question = {
        "specs": list(specs),
        "lists": [[each.channel, each.subdir, os.fspath(each.file)] for each in lists],
        "virtual": dict(virtual),
        "preferred": list(preferred),
        "installed": list(installed),
    }
    # rattler has threads of its own, which a fork of this process would miss.
    done = subprocess.run(
        [sys.executable, "-I", "-c", _PROGRAM, *_IMPORTABLE],
        input=json.dumps(question).encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        last = done.stderr.decode("utf-8", "replace").strip()[-500:]
        raise EngineError(f"the solver of conda packages ended with status {done.returncode}: {last}")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise ResolutionError(answer["error"], hint=answer["hint"])
    return [CondaPackage(**package) for package in answer["packages"]]


def answer_question() -> None:
    """What the process of the solver does: a question on stdin, its answer on stdout, both JSON."""
    question = json.load(sys.stdin)
    lists = [Listed(channel=channel, subdir=subdir, file=Path(file)) for channel, subdir, file in question.pop("lists")]
    try:
        packages = _solve(lists=lists, **question)
    except ResolutionError as error:
        json.dump({"error": error.message, "hint": error.hint}, sys.stdout)
    else:
        json.dump({"packages": [asdict(package) for package in packages]}, sys.stdout)
    sys.stdout.flush()
    # rattler's threads do not survive the end of Python in good order.
    os._exit(0)


def _solve(
    *,
    specs: Sequence[str],
    lists: Sequence[Listed],
    virtual: Mapping[str, str],
    preferred: Sequence[str],
    installed: Sequence[str],
) -> list[CondaPackage]:
    import asyncio

    from rattler import (
        BuildString,
        Channel,
        GenericVirtualPackage,
        MatchSpec,
        PackageFormatSelection,
        PackageName,
        RepoDataRecord,
        SparseRepoData,
        Version,
        solve_with_sparse_repodata,
    )
    from rattler.exceptions import InvalidMatchSpecError, SolverError

    try:
        asked = [MatchSpec(spec) for spec in specs]
    except InvalidMatchSpecError as error:
        raise ResolutionError(f"{error}", hint='write conda\'s form: "numpy>=1.26", "python=3.12"') from error
    data = []
    for each in lists:
        try:
            data.append(SparseRepoData(Channel(each.channel), each.subdir, each.file))
        except OSError as error:
            where = f"{each.channel}/{each.subdir}"
            raise ResolutionError(
                f"the list of packages of {where} is broken: {error}", hint="check the channel's name or URL"
            ) from error
    names = {url: _name_in(url) for url in (*preferred, *installed)}
    known: dict[str, Any] = {}
    for sparse in data:
        for name in sorted(set(names.values()) & set(sparse.package_names())):
            records = sparse.load_records(PackageName(name), PackageFormatSelection.BOTH)
            known |= {record.url: record for record in records if record.url in names}
    if gone := [url for url in installed if url not in known]:
        raise ResolutionError(
            f"the channels no longer have {gone[0]}, which an earlier step installs",
            hint="klock lock --upgrade chooses all packages anew",
        )
    try:
        found = asyncio.run(
            solve_with_sparse_repodata(
                asked,
                data,
                locked_packages=[known[url] for url in preferred if url in known],
                pinned_packages=[known[url] for url in installed],
                virtual_packages=[
                    GenericVirtualPackage(PackageName(name), Version(number), BuildString(build or "0"))
                    for name, (number, _, build) in ((n, v.partition("=")) for n, v in virtual.items())
                ],
            )
        )
    except SolverError as error:
        raise ResolutionError(
            f"conda packages do not fit together: {str(error).strip()}", hint="change the specifications"
        ) from error
    by_name: dict[str, Any] = {record.name.normalized: record for record in found}
    in_order = RepoDataRecord.sort_topologically([by_name[name] for name in sorted(by_name)])
    return [_package(by_name[each.name.normalized]) for each in in_order]


def _name_in(url: str) -> str:
    return url.rpartition("/")[2].rsplit("-", 2)[0]


def _package(record: Any) -> CondaPackage:
    if record.sha256 is None:
        raise ResolutionError(
            f"the channel has no SHA-256 of {record.file_name}", hint="use a channel that has: conda-forge"
        )
    return CondaPackage(
        name=record.name.normalized,
        version=str(record.version),
        build=str(record.build),
        url=str(record.url),
        sha256=record.sha256.hex(),
        size=record.size or 0,
    )
