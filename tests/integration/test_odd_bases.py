"""Base images as other tools make them, as small as they get: one static program and what a test is about.

Each is locked once, and must be the same on every engine.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.integration.container_engines import ALL_ENGINES, ContainerHost, engine_host, on
from tests.integration.small_base import Member, write_small_base

pytestmark = pytest.mark.integration

EACH_KIND = on("sandbox, unprivileged", "docker")
ALSO_PODMAN = on("sandbox, unprivileged", "podman, unprivileged", "docker")

IMAGE = 'import klock as kt\nimage = kt.Image().from_docker("oci:./layout:image").set_env_vars({"A": "b"})\n'


@pytest.fixture(scope="module", params=ALL_ENGINES)
def host(request: pytest.FixtureRequest) -> Iterator[ContainerHost]:
    with engine_host(request) as made:
        yield made


class Environment:
    """A project on a base of these layers, locked and synced."""

    def __init__(self, host: ContainerHost, *layers: Sequence[Member], etc: bool = True, **config: object) -> None:
        self.host = host
        self.folder = host.account.make_folder("project")
        write_small_base(self.folder / "layout", *layers, etc=etc, **config)
        (self.folder / "kimage.py").write_text(IMAGE)
        host.account.give(self.folder)
        self._succeeded(host.account.klock("lock", "--quiet", cwd=self.folder, env=host.variables))
        self._succeeded(host.klock("sync", "--quiet", cwd=self.folder))

    def run(self, script: str, *options: str, status: int = 0) -> str:
        done = self.host.klock("run", "--quiet", *options, "--", "sh", "-c", script, cwd=self.folder)
        assert done.returncode == status, f"{script}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def check(self) -> str:
        return self.host.klock("check", "--env", cwd=self.folder).stdout

    @staticmethod
    def _succeeded(done: subprocess.CompletedProcess[str]) -> None:
        assert done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"


WHITEOUTS: Mapping[str, tuple[list[Member], list[Member], str]] = {
    "in a folder that is made anew": (
        [("h/", None), ("h/old", "1"), ("h/zz", "1")],
        [("h/", None), ("h/.wh..wh..opq", ""), ("h/.wh.zz", ""), ("h/new", "1")],
        "/h\n/h/new\n",
    ),
    "of nothing": ([("h/", None)], [("n/", None), ("n/.wh.foo", ""), ("n/x", "1")], "/h\n/n\n/n/x\n"),
    "of a folder and of what was in it": (
        [("h/", None), ("h/old", "1")],
        [(".wh.h", ""), ("h/", None), ("h/.wh.old", ""), ("h/new", "1")],
        "/h\n/h/new\n",
    ),
}


@ALSO_PODMAN
@pytest.mark.parametrize("case", WHITEOUTS)
def test_whiteouts(host: ContainerHost, case: str) -> None:
    first, second, expected = WHITEOUTS[case]
    environment = Environment(host, first, second)
    # overlayfs lists a whiteout that has nothing to hide, and find wonders, on every engine.
    found = environment.run("find /h /n 2>/dev/null; true")
    assert sorted(found.splitlines()) == expected.split()
    assert environment.check() == ""


@on("sandbox", "sandbox, unprivileged")
def test_a_folder_is_removed_and_has_files_again_without_an_entry_of_its_own(host: ContainerHost) -> None:
    if host.engine != "sandbox":
        return  # podman and docker refuse such an archive
    layers: list[list[Member]] = [[("h/", None), ("h/old", "1"), ("h/sub/o", "1")], [(".wh.h", ""), ("h/new", "1")]]
    environment = Environment(host, *layers)
    assert environment.run("find /h") == "/h\n/h/new\n"
    assert environment.check() == ""


@EACH_KIND
def test_a_user_without_privileges(host: ContainerHost) -> None:
    layer: list[Member] = [
        ("0700:0:bin/roots", "#!/bin/sh\necho ran\n"),
        ("0750:1000:bin/own", "#!/bin/sh\necho own\n"),
    ]
    environment = Environment(host, layer, User="app", WorkingDir="/miss/ing")
    assert environment.run("id -u; own") == "1000\nown\n"
    # The pipe of an account's own shell.
    klock = ["klock", "run", "--engine", host.engine, "--", "sh", "-c", "echo out > /dev/stdout"]
    words: list[str | Path] = [host.account.python, "-m", *klock]
    piped = host.account.run(["sh", "-c", '"$@" | cat', "sh", *words], cwd=environment.folder, env=host.variables)
    assert piped.stdout == "out\n", piped.stderr
    done = host.klock("run", "--quiet", "--", "roots", cwd=environment.folder)
    assert (done.returncode, done.stderr) == (126, "klock: not an executable file: roots\n")
    assert environment.check() == ""


@EACH_KIND
@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", "0 0 0"),
        ("app", "1000 1000 1000 2000"),
        ("1000", "1000 1000 1000 2000"),
        ("01000", "1000 1000 1000 2000"),
        ("3000", "3000 0 0"),
        ("app:more", "1000 2000 2000"),
        ("4000:5000", "4000 5000 5000"),
    ],
)
def test_whom_a_user_means(host: ContainerHost, user: str, expected: str) -> None:
    """As runc reads it: a number is an id, whatever accounts and groups are called."""
    environment = Environment(host, User=user)
    uid, gid, *groups = environment.run("echo $(id -u) $(id -g) $(id -G)").split()
    assert [uid, gid, *sorted(set(groups))] == [*expected.split()[:2], *sorted(set(expected.split()[2:]))]


@EACH_KIND
def test_a_base_with_nothing_but_a_program(host: ContainerHost) -> None:
    environment = Environment(host, etc=False, Env=["PATH=/bin", "HOME="])
    assert environment.run("echo $A $HOME") == "b /root\n"
    assert environment.check() == ""


@EACH_KIND
def test_a_working_directory_behind_a_symlink(host: ContainerHost) -> None:
    layer: list[Member] = [("d/real/", None), ("d/abs", "-> /d/real")]
    environment = Environment(host, layer, WorkingDir="/d/abs/new")
    assert environment.run("cd -P . && pwd") == "/d/real/new\n"
    assert environment.check() == ""


@EACH_KIND
def test_more_layers_than_an_engine_takes(host: ContainerHost) -> None:
    environment = Environment(host, *([(f"l/{number}", str(number))] for number in range(126)))
    assert len(environment.run("ls /l").split()) == 126
    assert environment.check() == ""


@EACH_KIND
def test_mounts_are_shown_from_the_outside_in(host: ContainerHost) -> None:
    environment = Environment(host)
    outer, inner = host.account.make_folder("outer"), host.account.make_folder("inner")
    (outer / "own").touch()
    (inner / "file").touch()
    shown = environment.run("ls /x; ls /x/in", "-m", f"{inner}:/x/in", "-m", f"{outer}:/x")
    assert shown == "in\nown\nfile\n"
    for wrong in (("-m", f"{outer}:/"), ("-m", f"{outer}:/x", "-m", f"{inner}:/x/")):
        done = host.klock("run", *wrong, "--", "true", cwd=environment.folder)
        assert done.returncode == 2 and done.stderr.startswith("error: --mount"), done.stderr
