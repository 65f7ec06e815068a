"""Which commands may start at once, and what is noted of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from klock.places import starter
from klock.places.sandbox.launch import launch_of
from klock.unchanged.running import options_of
from klock.workshop.command import Command, Mount, Network, Uplink

LINES: dict[str, tuple[str, str | None]] = {
    "a command alone": ("run true", "run"),
    "a command with options of its own": ("run ls -l --image x", "run"),
    "after two hyphens": ("run -- ls -l", "run --"),
    "flags": ("run -q --no-sync --offline true", "run -q --no-sync --offline"),
    "options with values": ("run --image a.py -m .:/work -w /x true", "run --image a.py -m .:/work -w /x"),
    "options with an equals sign": ("run --network=none true", "run --network=none"),
    "no command": ("run", None),
    "only options": ("run --no-sync", None),
    "an option without its value": ("run --image", None),
    "two hyphens alone": ("run --", None),
    "a variable": ("run -e A=1 true", None),
    "an option that is not known to be plain": ("run --wait-for 80 true", None),
    "short options in one": ("run -qv true", None),
    "help": ("run --help", None),
}


@pytest.mark.parametrize(("line", "options"), LINES.values(), ids=LINES)
def test_the_words_before_the_command(line: str, options: str | None) -> None:
    found = options_of(line.split())
    assert (found and " ".join(found)) == options


_NOT_IN_A_LAUNCH = {"argv", "script", "devices", "own_tmp", "varied", "host_pid", "host_ipc", "shm_size"}
"""A command that has one of the last seven is none of a launch."""

COMMAND = Command(
    argv=("cat", "secret words"),
    environment={"A": "1"},
    working_dir="/work",
    makes_working_dir=False,
    user="app",
    network=Network.HOST,
    mounts=(Mount(source=Path("/etc"), target="/mnt", read_only=False),),
)


def test_a_launch_has_all_of_a_command_but_its_words() -> None:
    launch = launch_of("name-1", COMMAND, ca_bundle=None)
    assert launch is not None and "secret" not in launch and "\n" not in launch
    assert json.loads(launch) == {
        "name": "name-1",
        "ca_bundle": None,
        "environment": {"A": "1"},
        "working_dir": "/work",
        "makes_working_dir": False,
        "user": "app",
        "network": "host",
        "mounts": [["/etc", "/mnt", False]],
    }
    # A field of a command that a launch does not know would be lost.
    assert len(json.loads(launch)) - 2 == len(Command.__slots__) - len(_NOT_IN_A_LAUNCH)


def test_a_command_that_needs_more_has_no_launch() -> None:
    assert launch_of("name-1", replace(COMMAND, script="text"), ca_bundle=None) is None
    assert launch_of("name-1", replace(COMMAND, host_pid=True), ca_bundle=None) is None
    assert launch_of("name-1", replace(COMMAND, shm_size=1), ca_bundle=None) is None
    uplink = Uplink(channel=None, ports=(), certificate=b"")  # type: ignore[arg-type]
    assert launch_of("name-1", replace(COMMAND, network=uplink), ca_bundle=None) is None


def test_what_a_launch_names_has_to_be_there(tmp_path: Path) -> None:
    gone = launch_of("n", replace(COMMAND, mounts=(Mount(source=tmp_path / "gone", target="/m"),)), ca_bundle=None)
    no_bundle = launch_of("n", COMMAND, ca_bundle=tmp_path / "gone.pem")
    there = launch_of("n", COMMAND, ca_bundle=tmp_path)
    assert gone is not None and no_bundle is not None and there is not None
    assert starter(gone) is None
    assert starter(no_bundle) is None
    assert starter(there) is not None
