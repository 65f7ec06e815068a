"""Packages of later steps are fetched while earlier ones are done: a process that only fills the store."""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from klock.digests import digest_of_bytes, hex_of
from klock.lockfile.model import LayerLock, LockedPackage, PipLock, TargetLock, WheelArtifact
from klock.replay import _later_fetches
from klock.replay.goal import Goal
from klock.replay.plan import Action, AddBase, Plan, ReuseLayer, RunStep
from klock.replay.prefetch import prefetching
from klock.steps.context import Context
from klock.targets import Target
from tests.memory_workshop import memory_context
from tests.test_stale import BASE

WHEEL = b"wheel " * 1000
LAYER = LayerLock(digest="sha256:" + "b" * 64, files=1, size=2)


@pytest.fixture
def index() -> Iterator[socket.socket]:
    """A server that waits for a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        yield server


def locked(server: socket.socket) -> TargetLock:
    wheel = WheelArtifact(
        name="x-1.0-py3-none-any.whl",
        url=f"http://127.0.0.1:{server.getsockname()[1]}/x-1.0-py3-none-any.whl",
        size=len(WHEEL),
        sha256=hex_of(digest_of_bytes(WHEEL)),
    )
    return TargetLock(
        target=Target.parse("linux/amd64"),
        base=BASE,
        interpreter=None,
        steps=(PipLock(requirements=("x",), packages=("x==1.0",), layer=LAYER),),
        packages=(LockedPackage(name="x", version="1.0", index=None, artifact=wheel),),
    )


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return memory_context(tmp_path)


def answer(server: socket.socket, body: bytes) -> None:
    connection, _ = server.accept()
    connection.recv(65536)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(WHEEL)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    if len(body) == len(WHEEL):
        connection.close()


def test_what_it_fetches_is_in_the_store(index: socket.socket, context: Context) -> None:
    lock = locked(index)
    threads = set(threading.enumerate())
    with prefetching([context.at(lock, 0)], context) as prefetch:
        assert set(threading.enumerate()) <= threads  # engines fork: this is a process, not threads
        answer(index, WHEEL)
        prefetch.wait()
        assert context.store.find_blob(digest_of_bytes(WHEEL)) is not None


def test_what_it_cannot_fetch_is_left_to_the_step(
    index: socket.socket, context: Context, capfd: pytest.CaptureFixture[str]
) -> None:
    lock = locked(index)
    with prefetching([context.at(lock, 0)], context) as prefetch:
        answer(index, b"other " * 1000)
        prefetch.wait()
    assert context.store.find_blob(digest_of_bytes(WHEEL)) is None
    assert capfd.readouterr() == ("", "")


def test_nothing_of_it_is_left_when_it_is_not_wanted_any_more(index: socket.socket, context: Context) -> None:
    with pytest.raises(RuntimeError), prefetching([context.at(locked(index), 0)], context) as prefetch:
        process = prefetch._pid
        answer(index, WHEEL[:100])
        while not list((context.store.root / "tmp").glob("*")):
            time.sleep(0.01)
        raise RuntimeError("the base cannot be had")
    assert list((context.store.root / "tmp").iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_offline_it_asks_nobody(index: socket.socket, context: Context) -> None:
    index.settimeout(0.2)
    with prefetching([context.at(locked(index), 0)], dataclasses.replace(context, offline=True)) as prefetch:
        prefetch.wait()
        with pytest.raises(TimeoutError):
            index.accept()


def test_only_what_can_be_fetched_meanwhile_is_fetched_ahead(index: socket.socket, context: Context) -> None:
    lock = locked(index)
    lock = dataclasses.replace(lock, steps=lock.steps * 3)

    def run(position: int, size: int = 1) -> RunStep:
        return RunStep(position=position, text="", reason="", size=size)

    def ahead(*actions: Action) -> list[int]:
        goal = Goal(name="x", lock=lock, cache_keys=(None,) * 3, lock_digest="sha256:x", project=context.root)
        return [at.position for at in _later_fetches(Plan(actions=actions), goal, context)]

    base, reuse = AddBase(name="", size=1), ReuseLayer(position=0, text="")
    assert ahead(base, run(0), run(1, 0), run(2)) == [0, 2]
    assert ahead(reuse, run(1), run(2)) == [2]
    assert ahead(reuse, run(1)) == []
