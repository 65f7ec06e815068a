"""Searching what a step wrote: file contents, names, symlinks, attributes, and nothing of the tree below."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.workshop import SandboxWorkshop
from klock.workshop.searching import paths_with
from tests.integration.sandbox_fixtures import BASE, debian_engine, programs_tar, python, shell

__all__ = ["debian_engine", "programs_tar"]

pytestmark = pytest.mark.integration

WRITTEN = {
    "a file": ("echo a hidden-value here > /opt/x", ["/opt/x"]),
    "a file that only its owner may read": ("umask 777; echo hidden-value > /opt/x; chown 1:1 /opt/x", ["/opt/x"]),
    "the end of a large file": ("head -c 3000000 /dev/zero > /opt/x; printf hidden-value >> /opt/x", ["/opt/x"]),
    "a symlink's text": ("ln -s /nowhere/hidden-value /opt/x", ["/opt/x"]),
    "a file's name": ("touch /opt/a-hidden-value-b", ["/opt/a-hidden-value-b"]),
    "a folder's name": ("mkdir -p /opt/hidden-value/x; touch /opt/hidden-value/x/y", ["/opt/hidden-value"]),
    "a symlink's name": ("ln -s /etc/passwd /opt/hidden-value", ["/opt/hidden-value"]),
    "two of them": ("mkdir /opt/x; echo hidden-value | tee /opt/x/1 > /opt/x/0", ["/opt/x/0", "/opt/x/1"]),
    "either of two values": ("echo other-value > /opt/1; echo hidden-value > /opt/2", ["/opt/1", "/opt/2"]),
    "a file that was there, changed": ("echo hidden-value >> /etc/passwd", ["/etc/passwd"]),
    "a FIFO, which is not waited for": ("mkfifo /opt/x", []),
    "a file that was removed again": ("echo hidden-value > /opt/x; rm /opt/x", []),
    "part of a value": ("echo hidden-valu > /opt/x", []),
    "temporary files": ("echo hidden-value > /tmp/x; echo hidden-value > /run/x", []),
}


@pytest.mark.parametrize(("script", "found"), WRITTEN.values(), ids=WRITTEN)
def test_finds_in(debian_engine: SandboxWorkshop, script: str, found: list[str]) -> None:
    with debian_engine.open(BASE, []) as workspace:
        shell(workspace, script)
        assert workspace.find([b"hidden-value", b"other-value"]) == found


def test_finds_in_attributes(debian_engine: SandboxWorkshop) -> None:
    with debian_engine.open(BASE, []) as workspace:
        python(
            workspace,
            "for name in 'abc': open('/opt/' + name, 'w')\n"
            "os.setxattr('/opt/a', 'user.note', b'a hidden-value')\n"
            "os.setxattr('/opt/b', 'user.hidden-value', b'')\n"
            "os.setxattr('/opt', 'user.note', b'hidden-value')",
        )
        assert workspace.find([b"hidden-value"]) == ["/opt", "/opt/a", "/opt/b"]


def test_what_an_earlier_step_wrote_is_not_searched_again(debian_engine: SandboxWorkshop) -> None:
    with debian_engine.open(BASE, []) as workspace:
        shell(workspace, "echo hidden-value > /opt/x")
        workspace.snapshot()
        assert workspace.find([b"hidden-value"]) == []


def test_no_values_are_nowhere(debian_engine: SandboxWorkshop) -> None:
    with debian_engine.open(BASE, []) as workspace:
        shell(workspace, "echo x > /opt/x")
        assert workspace.find([]) == []
        assert workspace.find([b""]) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("searched")


@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=3),
    before=st.integers(-80, 80).map(lambda distance: (1 << 18) + distance),
    after=st.sampled_from([0, 1, 80, 1 << 18]),
)
def test_a_value_is_found_wherever_it_lies(folder: Path, lengths: list[int], before: int, after: int) -> None:
    values = [bytes([ord("a") + number]) * length + b"!" for number, length in enumerate(lengths)]
    for value in values:
        (folder / "x").write_bytes(bytes(before) + value + bytes(after))
        assert paths_with(values, os.fspath(folder)) == ["/x"]
        (folder / "x").write_bytes(bytes(before) + value[:-1] + bytes(after))
        assert paths_with(values, os.fspath(folder)) == []
