"""Base images as small as they get: one static program, and what a test is about. Everything is quick with them.

write_small_base(folder / "layout", busybox(), [("h/", None), ("h/old", "1")], [("h/.wh.old", "")], User="app")
(folder / "kimage.py").write_text(SMALL_IMAGE)
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.integration.registry_server import write_layout
from tests.integration.unprivileged import require_program

__all__ = ["SMALL_BASE", "Member", "archive", "write_small_base"]

SMALL_BASE: Final = "oci:./layout:image"
"""For `from_docker`, beside a folder `layout` that `write_small_base` wrote."""

Member = tuple[str, str | bytes | None]
"""A path, and a file's content; None for a folder, `-> x` for a symlink. Paths may begin with `mode:owner:`."""

_ACCOUNTS: Final[list[Member]] = [
    (
        "0644:0:etc/passwd",
        "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n3000:x:3001:3001::/:/bin/sh\n",
    ),
    ("0644:0:etc/group", "root:x:0:\napp:x:1000:\nmore:x:2000:app\n"),
]


def archive(members: Sequence[Member]) -> bytes:
    """A tar file of these members."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, content in members:
            *options, path = name.split(":")
            member = tarfile.TarInfo(path)
            member.mtime = 1_000_000_000
            member.mode = int(options[0], 8) if options else 0o755
            member.uid = member.gid = int(options[1]) if options[1:] else 0
            if content is None:
                member.type = tarfile.DIRTYPE
            elif isinstance(content, str) and content.startswith("-> "):
                member.type, member.linkname = tarfile.SYMTYPE, content[3:]
            else:
                data = content.encode() if isinstance(content, str) else content
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
                continue
            tar.addfile(member)
    return raw.getvalue()


def write_small_base(layout: Path, *layers: Sequence[Member], etc: bool = True, **config: object) -> None:
    """Writes an OCI layout of busybox, accounts if it is to have `etc`, and `layers` over that."""
    program = Path(require_program("busybox", package="busybox-static"))
    first: list[Member] = [("bin/busybox", program.read_bytes())]
    first += [(f"bin/{name}", "-> busybox") for name in _PROGRAMS]
    if etc:
        first += _ACCOUNTS
    with tempfile.TemporaryDirectory() as folder:
        tars = []
        for number, members in enumerate([first, *layers]):
            tars.append(Path(folder, f"{number}.tar"))
            tars[-1].write_bytes(archive(members))
        write_layout(layout, {None: tars}, config={"Env": ["PATH=/bin"], **config})


# Programs that the tests call, each a symlink, as `busybox --install -s` makes them.
_PROGRAMS: Final = (
    *("adduser", "cat", "chmod", "chown", "cp", "echo", "env", "false", "find", "head", "id", "ln", "ls", "mkdir"),
    *("mkfifo", "mv", "pwd", "rev", "rm", "sh", "sha256sum", "sleep", "sort", "stat", "test", "touch", "true", "tty"),
    *("wc", "yes"),
)
