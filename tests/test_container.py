"""Where klock takes the machine it runs on for a container, and where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from klock.workshop.container import is_container

MACHINE = "proc /proc proc rw 0 0\n/dev/vda / ext4 rw,relatime 0 0\noverlay /var/lib/x overlay rw 0 0\n"
CONTAINER = "overlay / overlay rw,lowerdir=/a:/b,upperdir=/c 0 0\nproc /proc proc rw 0 0\n"


@pytest.mark.parametrize(
    ("environ", "file", "mounts", "expected"),
    [
        ({}, None, MACHINE, False),
        ({}, None, CONTAINER, True),
        ({}, None, CONTAINER.replace(" overlay rw", " fuse.fuse-overlayfs rw"), True),
        ({}, ".dockerenv", MACHINE, True),
        ({}, "run/.containerenv", MACHINE, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None, MACHINE, True),
        ({"container": "yes"}, None, MACHINE, True),
        ({"container": ""}, None, MACHINE, False),
        ({}, None, None, False),
    ],
)
def test_it_is_told_by_what_engines_leave(
    tmp_path: Path, environ: dict[str, str], file: str | None, mounts: str | None, expected: bool
) -> None:
    for name, text in ((file, ""), ("proc/self/mounts", mounts)):
        if name is not None and text is not None:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
    assert is_container(environ, root=tmp_path) is expected
