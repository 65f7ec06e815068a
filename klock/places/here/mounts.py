"""What is mounted over the container's root. Mounts belong to the pod, and klock must not write into them."""

from __future__ import annotations

from collections.abc import Iterable

from klock.errors import EngineError
from klock.layers.scan import text_of

__all__ = ["mount_points", "refuse_mounted"]


def mount_points() -> set[bytes]:
    """Where something is mounted over the root file system (proc_pid_mountinfo(5), field 5, octal escapes)."""
    points = set()
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            point = line.split(b" ")[4]
            for escape, byte in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
                point = point.replace(escape, byte)
            points.add(point)
    return points - {b"/"}


def refuse_mounted(paths: Iterable[str], what: str) -> None:
    """Raises EngineError when one of `paths`, of a manifest and through no symlink, is at or below a mount point."""
    points = {text_of(point[1:]) for point in mount_points()}
    for path in sorted(paths):
        above = path
        while above and above not in points:
            above = above.rpartition("/")[0]
        if above:
            raise EngineError(
                f"{what}: /{path} is inside the mount /{above}, which klock does not change",
                hint="start the container without that mount, mount it elsewhere, or change the step",
            )
