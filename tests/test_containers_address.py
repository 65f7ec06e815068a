"""Where an engine is, as its own program reads it."""

from __future__ import annotations

import pytest

from klock.places.containers.address import docker_address


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("ssh://me@MyBox", "MyBox"),
        ("ssh://Me:word@MyBox:2200/run/Docker.sock", "MyBox"),
        ("tcp://[FE80::1]:2376", "FE80::1"),
    ],
)
def test_a_host_keeps_its_letters(url: str, host: str) -> None:
    """ssh's settings may have a `Host MyBox`, which `mybox` does not match."""
    assert docker_address({"DOCKER_HOST": url}).host == host
