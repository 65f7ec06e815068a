"""Images with shell steps, locked where the upstream is and replayed where no network is, by klock's own command line.

lab = Laboratory(account=account, upstream=upstream, layout=clients_layout())
project = lab.project(Step("curl -fsS https://files.upstream.test/bytes/a/10 -o /a"))
project.lock()
project.replay()                    # another store, an empty network; the same fingerprint
project.prints("cat /a")            # in the replayed environment
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from tests.integration.conftest import copy_store, store_with
from tests.integration.unprivileged import EMPTY_NETWORK, Account
from tests.integration.upstream.world import World

__all__ = ["Case", "Laboratory", "Project", "Step"]

_FINGERPRINT: Final = re.compile(r"\bsha256:[0-9a-f]{64}$", re.MULTILINE)
_RAN: Final = re.compile(r"(\d+) of \d+ steps? ran")


@dataclass(frozen=True, slots=True)
class Step:
    """A `run_bash`: the command as Python source, so that it may name variables, and keyword arguments."""

    command: str
    options: Mapping[str, object] = field(default_factory=dict)
    is_source: bool = False

    def __str__(self) -> str:
        command = self.command if self.is_source else repr(self.command)
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f".run_bash({command}{options})"


@dataclass(frozen=True, kw_only=True)
class Laboratory:
    """Somebody with two stores: one that records, and another that gets the blobs of the first but none of its layers.
    Both have the base.

    Without `upstream` images are locked in this machine's network."""

    account: Account
    layout: Path
    upstream: World | None = None

    @cached_property
    def recording_store(self) -> Path:
        return self._store("recording")

    @cached_property
    def replaying_store(self) -> Path:
        return self._store("replaying")

    def _store(self, name: str) -> Path:
        def prepare(folder: Path) -> None:
            (folder / "clients").symlink_to(self.layout)

        store = self.account.make_folder(name) / "store"
        copy_store(store_with(self.account, "oci:./clients", prepare, name="clients"), store)
        return store

    def project(self, *steps: Step | str, files: Mapping[str, bytes] | None = None) -> Project:
        """A folder with `kimage.py`. A step given as text is a command; one with a dot in front a builder's call."""
        folder = self.account.make_folder("project")
        (folder / "clients").symlink_to(self.layout)
        settings = "[tool.klock]\n"
        if self.upstream is not None:
            shutil.copy(self.upstream.certificate, folder / "upstream.pem")
            settings += 'ca-bundle = "upstream.pem"\n'
        (folder / "pyproject.toml").write_text(settings)
        for name, content in (files or {}).items():
            (folder / name).write_bytes(content)
        project = Project(laboratory=self, folder=folder, said=[])
        project.write(*steps)
        self.account.give(folder)
        return project


@dataclass(frozen=True, kw_only=True)
class Project:
    """`said` collects everything klock printed here."""

    laboratory: Laboratory
    folder: Path
    said: list[str]

    @property
    def lockfile(self) -> Path:
        return self.folder / "kimage.lock"

    def write(self, *steps: Step | str) -> None:
        calls = "".join(f"    {step if _is_call(step) else Step(str(step))}\n" for step in steps)
        head = 'import os\nimport klock as kt\n\nimage = (\n    kt.Image()\n    .from_docker("oci:./clients")\n'
        (self.folder / "kimage.py").write_text(f"{head}{calls})\n")

    def lock(
        self, *, env: Mapping[str, str] | None = None, status: int = 0, verbose: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """`klock lock` where the upstream is."""
        return self.klock_online("lock", *(["--verbose"] if verbose else []), env=env, status=status)

    def klock_online(
        self, *arguments: str | Path, env: Mapping[str, str] | None = None, status: int = 0, store: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """klock where the upstream is, with the store that records."""
        laboratory = self.laboratory
        variables = {"KLOCK_CACHE_DIR": str(store or laboratory.recording_store), **(env or {})}
        enter = laboratory.upstream.enter if laboratory.upstream else ()
        return self._heard(laboratory.account.klock(*arguments, cwd=self.folder, env=variables, enter=enter), status)

    def replay(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        status: int = 0,
        without: Collection[str] = (),
    ) -> subprocess.CompletedProcess[str]:
        """`klock sync` in an empty network, with the recorded blobs, `without` some by SHA-256, and no layer.

        When it succeeds, every shell step has run, and the fingerprint is the locked one."""
        store = self.laboratory.replaying_store
        carry_blobs(self.laboratory.recording_store, store, without=without)
        done = self.klock("sync", "--verbose", *arguments, env=env, status=status)
        if status == 0:
            ran = _RAN.search(done.stderr)
            assert ran is not None and int(ran[1]) >= len(self.shell_steps), done.stderr
            assert _FINGERPRINT.findall(done.stderr)[-1] == self.locked_fingerprint
        return done

    def klock(
        self, *arguments: str | Path, env: Mapping[str, str] | None = None, status: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """klock in an empty network, with the store that replays."""
        laboratory = self.laboratory
        variables = {"KLOCK_CACHE_DIR": str(laboratory.replaying_store), **(env or {})}
        done = laboratory.account.klock(*arguments, cwd=self.folder, env=variables, enter=EMPTY_NETWORK)
        return self._heard(done, status)

    def prints(self, script: str, *, env: Mapping[str, str] | None = None) -> str:
        """What a shell prints in the replayed environment."""
        return self.klock("run", "--", "sh", "-ec", script, env=env).stdout

    @property
    def locked_fingerprint(self) -> str:
        """The one that the last `klock lock` printed."""
        said = next(said for said in reversed(self.said) if " klock lock " in said.splitlines()[0])
        return str(_FINGERPRINT.findall(said)[-1])

    @property
    def shell_steps(self) -> list[dict[str, Any]]:
        """The lockfile's tables of the `run_bash` steps."""
        return [step for step in tomllib.loads(self.lockfile.read_text())["steps"] if step["kind"] == "run_bash"]

    @property
    def requests(self) -> list[str]:
        """The locked requests of all steps, each `METHOD URL STATUS`."""
        return [
            f"{request['method']} {request['url']} {request['status']}"
            for step in self.shell_steps
            for request in step.get("requests", ())
        ]

    def _heard(self, done: subprocess.CompletedProcess[str], status: int) -> subprocess.CompletedProcess[str]:
        said = f"$ {' '.join(map(str, done.args))} : exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        self.said.append(said)
        assert done.returncode == status, said
        return done


def carry_blobs(source: Path, target: Path, *, without: Collection[str] = ()) -> None:
    """Gives one store the blobs of another, and nothing that was made of them."""
    for path in source.glob("blobs/sha256/*/*"):
        copy = target / path.relative_to(source)
        if copy.exists() or path.name in without:
            continue
        for folder in reversed([f for f in copy.parents if f.is_relative_to(target) and not f.exists()]):
            folder.mkdir()
            shutil.chown(folder, source.stat().st_uid, source.stat().st_gid)
        os.link(path, copy)


def _is_call(step: Step | str) -> bool:
    return isinstance(step, Step) or step.startswith(".")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a step fetches: `script` must print `prints` in the replayed environment, and the lockfile hold `asks`, each
    `METHOD URL STATUS` (`only`: and nothing else)."""

    steps: tuple[Step | str, ...]
    script: str
    prints: str
    asks: tuple[str, ...] = ()
    only: bool = False

    def holds(
        self, laboratory: Laboratory, *, files: Mapping[str, bytes], env: Mapping[str, str], checked: bool = False
    ) -> Project:
        """Records the case once and replays it with another store in an empty network. `checked`: so is what is there
        then, before its script runs."""
        project = laboratory.project(*self.steps, files=files)
        project.lock(env=env)
        if self.only:
            assert sorted(project.requests) == sorted(self.asks)
        else:
            assert set(self.asks) <= set(project.requests), project.requests
        project.replay(env=env)
        if checked:
            project.klock("check", "--env", env=env)
        assert project.prints(self.script, env=env) == self.prints
        return project
