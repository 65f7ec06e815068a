"""What the words of `klock run` mean."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from klock.errors import KlockError
from klock.lockfile.reading import from_text
from klock.running import devices_for, parse_shm_size, variables_of_program

SIZES = {"1": 1, "512": 512, "64k": 64 << 10, "512m": 512 << 20, "8g": 8 << 30, "8G": 8 << 30, "8gb": 8 << 30}
SIZES |= {"8GiB": 8 << 30, "1t": 1 << 40, "10b": 10}
NO_SIZES = ("", "0", "0g", "-1", "1.5g", "8 g", "g", "8x", "8388608t", "9" * 19 + "t", "9" * 30, "1m,mode=777", "٣m")


@pytest.mark.parametrize(
    ("argv", "variables"),
    [
        (["tini", "--", "x"], {"TINI_SUBREAPER": "1"}),
        (["/usr/bin/tini-static", "-g", "x"], {"TINI_SUBREAPER": "1"}),
        (["sh", "-c", "tini"], {}),
        (["dumb-init", "x"], {}),
        ([], {}),
    ],
)
def test_a_program_that_expects_to_be_process_1_is_told(argv: list[str], variables: dict[str, str]) -> None:
    assert variables_of_program(argv) == variables


@pytest.mark.parametrize("text", SIZES)
def test_sizes_are_as_docker_reads_them(text: str) -> None:
    assert parse_shm_size(text, host_ipc=False) == SIZES[text]


def test_a_size_may_be_a_number_and_need_not_be() -> None:
    assert parse_shm_size(4096, host_ipc=False) == 4096
    assert parse_shm_size(None, host_ipc=True) is None


@pytest.mark.parametrize("text", NO_SIZES)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(KlockError, match="is not a size"):
        parse_shm_size(text, host_ipc=False)


def test_who_shares_the_machines_memory_cannot_size_it() -> None:
    with pytest.raises(KlockError, match="with --host-ipc a command has the machine's own /dev/shm"):
        parse_shm_size("8g", host_ipc=True)


def test_a_running_container_has_the_devices_it_was_started_with() -> None:
    place: Any = SimpleNamespace(gives_devices=False)
    (locked,) = from_text((Path(__file__).parent.parent / "kimage.lock").read_text()).targets
    with pytest.raises(KlockError, match="--device: a running container has only the devices it was started with"):
        devices_for(locked, None, place, ["/dev/zero"])
    assert devices_for(locked, None, place).device_nodes == ()
