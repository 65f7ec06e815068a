"""A container's streams, from the other end of its connection. What real engines do is in the integration tests."""

from __future__ import annotations

import os
import socket
import struct

import pytest

from klock.errors import EngineError
from klock.places.containers.attached import Attachment
from klock.places.protocol import OWN_STREAMS


def frame(stream: int, content: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(content)) + content


def attach(sent: bytes) -> None:
    """Passes on what an engine sends before it closes the connection."""
    ours, engines = socket.socketpair()
    signals, end = os.pipe()
    try:
        with ours, engines:
            engines.sendall(sent)
            engines.shutdown(socket.SHUT_WR)
            Attachment(
                ours,
                streams=OWN_STREAMS,
                signals=signals,
                terminal=False,
                kill=lambda number: None,
                resize=lambda rows, columns: None,
            ).run()
    finally:
        os.close(signals)
        os.close(end)


def test_frames_go_where_they_belong(capfd: pytest.CaptureFixture[str]) -> None:
    attach(frame(1, b"out 1\n") + frame(2, b"err\n") + frame(1, b"") + frame(1, b"out 2\n"))
    assert capfd.readouterr() == ("out 1\nout 2\n", "err\n")


@pytest.mark.parametrize("rest", [b"broken pipe\n", b"error attaching to the container", frame(1, b"more")[:-1]])
def test_an_end_in_the_middle_is_an_error(rest: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """podman writes its own errors there, without a frame: a command without output must not look like a good one."""
    with pytest.raises(EngineError) as caught:
        attach(frame(1, b"out\n") + rest)
    assert caught.value.message.startswith("the engine closed the connection during the command's output: ")
    if rest.startswith(b"err"):
        assert caught.value.message.endswith(rest.decode())
    assert capfd.readouterr() == ("out\n", "")
