"""Finds the Python that pip steps install into and asks it, inside the environment, what it is.

Markers (PEP 508), wheel tags (PEP 425) and installed distributions all come from that Python itself: the host's takes
no part, so one image locks to the same bytes whatever klock runs on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from klock.digests import Digest, digest_of_bytes, digest_of_json
from klock.documents import read_json
from klock.errors import KlockError, StepFailed
from klock.lockfile.model import Distribution, InstallFolders, Interpreter
from klock.store import Store
from klock.temporary import temporary_folder
from klock.values import dataclass
from klock.workshop.handover import take_out
from klock.workshop.protocol import Command, Mount, Workspace

__all__ = [
    "InstalledDistribution",
    "KnownPythons",
    "TargetPython",
    "installed_distributions",
    "probe_interpreter",
    "python_environment",
]

_SCRIPT: Final = Path(__file__).with_name("probe_script.py")
_OUTPUT: Final = "/run/klock/probe"
_KIND: Final = "python"
_PATH: Final = r"/[^\n\0]*"
_MOST: Final = 64 << 20
_OWN_VARIABLES: Final = re.compile(
    r"(UV|PIP|PYTHON|VIRTUAL_ENV|CONDA)(_.*)?|PYTHON.*|SOURCE_DATE_EPOCH|PYC_.*|(?i:(https?|all|no)_proxy)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledDistribution:
    """A distribution that is in the environment; `requires` and `extras` are its METADATA's, as written."""

    name: str
    version: str
    requires: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPython:
    """An interpreter with what resolving for it needs and a lockfile does not keep.

    `markers` are the PEP 508 environment markers, `tags` the wheel tags it accepts, best first.
    """

    interpreter: Interpreter
    markers: Mapping[str, str]
    tags: tuple[str, ...]
    installed: tuple[InstalledDistribution, ...]

    @property
    def versions(self) -> Mapping[str, str]:
        """The version of each installed distribution by its normalised name."""
        return {distribution.name: distribution.version for distribution in self.installed}


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPythons:
    """What Pythons have said of themselves, kept by all that it depends on. `environment` has the digests of the base
    and of the layers over it."""

    store: Store
    environment: tuple[str, ...]

    def key(self, named: str | None, variables: Mapping[str, str], *, is_still: bool) -> Digest:
        import packaging

        rules = [digest_of_bytes(_SCRIPT.read_bytes()), packaging.__version__, is_still]
        return digest_of_json([rules, *self.environment, named, sorted(variables.items())])

    def find(self, key: Digest) -> TargetPython | None:
        """None where nothing is known, or what is known cannot be read."""
        answer = self.store.read_record(_KIND, key)
        try:
            return None if answer is None else _parse(answer, str(answer["path"]))
        except (StepFailed, KeyError, TypeError):
            return None

    def keep(self, key: Digest, answer: object) -> None:
        self.store.write_record(_KIND, key, answer)


def probe_interpreter(
    workspace: Workspace,
    *,
    python_path: str | None = None,
    variables: Mapping[str, str],
    machine: str | None = None,
    known: KnownPythons | None = None,
) -> TargetPython | None:
    """The Python of `python_path`, else of `$KT_PYTHON_PATH`, else the first python3 or python on `$PATH`, if any.

    `variables` are the container's variables at this step; `machine` is the kernel's name of the architecture, for a
    workspace in which nothing runs. With `known` a Python is asked once for each environment. Raises KlockError when a
    named Python is not there or is too old, StepFailed when it does not run.
    """
    named = python_path or variables.get("KT_PYTHON_PATH")
    key = known.key(named, python_environment(variables), is_still=workspace.known is not None) if known else ""
    if known is not None and (found := known.find(key)) is not None:
        return found
    answered = _answer(workspace, named, variables, machine)
    if answered is None:
        return None
    path, answer = answered
    python = _parse(answer, path)
    if known is not None:
        known.keep(key, answer)
    return python


def _answer(
    workspace: Workspace, named: str | None, variables: Mapping[str, str], machine: str | None
) -> tuple[str, Any] | None:
    """The path of the Python, and what it says of itself."""
    if workspace.known is not None:
        from klock.packages.still_python import describe_python

        search_path = python_environment(variables)["PATH"]
        said = describe_python(workspace.known, machine=machine or "", search_path=search_path, named=named)
        return None if said is None else (said["path"], said)
    path = _find(workspace, named, variables)
    if path is None:
        if named:
            raise KlockError(
                f"python_path {named!r} is not a program in the environment",
                hint="create it in a step before the first pip_install, or leave python_path out",
            )
        return None
    return path, _ask(workspace, path, variables)


def installed_distributions(
    workspace: Workspace, *, python: str, variables: Mapping[str, str]
) -> tuple[Distribution, ...]:
    """The distributions that the Python at `python` sees, by normalised name, sorted."""
    return _parse(_ask(workspace, python, variables), python).interpreter.distributions


def python_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The container's variables without those that would steer pip, uv or Python itself, or name a proxy."""
    kept = {name: value for name, value in variables.items() if not _OWN_VARIABLES.fullmatch(name)}
    kept.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    kept["HOME"] = "/run/klock/home"
    return kept


def _find(workspace: Workspace, named: str | None, variables: Mapping[str, str]) -> str | None:
    script = 'for name; do if path=$(command -v -- "$name"); then printf "%s" "$path"; exit 0; fi; done; exit 1'
    names: Sequence[str] = (named,) if named else ("python3", "python")
    found = workspace.run(
        Command(argv=("/bin/sh", "-c", script, "sh", *names), environment=python_environment(variables))
    )
    path = found.output.decode("utf-8", "replace").strip()
    return path if found.status == 0 and path.startswith("/") else None


def _ask(workspace: Workspace, path: str, variables: Mapping[str, str]) -> Any:
    import packaging

    with temporary_folder("probe") as folder:
        ended = workspace.run(
            Command(
                argv=(path, "-I", "-B", "/run/klock/probe_script.py", f"{_OUTPUT}/result.json"),
                environment=python_environment(variables),
                mounts=(
                    Mount(source=_SCRIPT, target="/run/klock/probe_script.py"),
                    Mount(source=Path(packaging.__file__).parent, target="/run/klock/lib/packaging"),
                    Mount(source=folder, target=_OUTPUT, read_only=False),
                ),
            )
        )
        if ended.status != 0:
            words = ended.output.decode("utf-8", "replace").strip().splitlines() or ["no output"]
            raise StepFailed(
                f"the environment's Python at {path} does not run (exit status {ended.status}): {words[-1]}",
                hint="set python_path to another Python, 3.8 or newer",
            )
        try:
            return read_json(take_out(folder, "result.json", most=_MOST) or b"")
        except ValueError as error:
            raise StepFailed(f"the environment's Python at {path} did not say what it is: {error}") from error


def _parse(answer: Any, path: str) -> TargetPython:
    """The environment is not trusted: every value must have the type and form it should."""
    try:
        installed = tuple(
            InstalledDistribution(
                name=_text(item["name"], r"[a-z0-9]+(-[a-z0-9]+)*"),
                version=_text(item["version"], r"[!-~]{1,200}"),
                requires=tuple(_text(requirement) for requirement in item["requires"]),
                extras=tuple(_text(extra) for extra in item["extras"]),
            )
            for item in answer["distributions"]
        )
        interpreter = Interpreter(
            path=_text(answer["path"], _PATH),
            version=_text(answer["version"], r"\d+\.\d+\.\d+[!-~]*"),
            implementation=_text(answer["implementation"], r"[a-z]+"),
            libc=_text(answer["libc"], r"|(glibc|musl) \d+\.\d+"),
            sha256=_text(answer["sha256"], r"[0-9a-f]{64}"),
            distributions=tuple(Distribution(name=item.name, version=item.version) for item in installed),
            folders=InstallFolders(**{_text(n): _text(path, _PATH) for n, path in answer["folders"].items()}),
            links=tuple((_text(path, _PATH), _text(to, _PATH)) for path, to in sorted(answer["links"].items())),
        )
        return TargetPython(
            interpreter=interpreter,
            markers={_text(name, r"[a-z_]+"): _text(value) for name, value in answer["markers"].items()},
            tags=tuple(_text(tag, r"[!-~]+-[!-~]+-[!-~]+") for tag in answer["tags"]),
            installed=installed,
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StepFailed(f"the environment's Python at {path} gave an answer klock cannot read: {error}") from error


def _text(value: object, pattern: str | None = None) -> str:
    if not isinstance(value, str) or (pattern is not None and re.fullmatch(pattern, value) is None):
        raise ValueError(f"unexpected {value!r}")
    return value
