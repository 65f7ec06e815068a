"""A folder as teams share it: what is made in it gets its group and its access control list (acl(5))."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final

__all__ = ["SOMEBODY", "share"]

SOMEBODY: Final = 60
"""A user, and a group, that is not the tests' own."""

_UNNAMED: Final = 0xFFFFFFFF
_ENTRIES: Final = (
    # (tag, permissions, id), as in linux/posix_acl_xattr.h: owner, a user by name, group, mask, others
    (0x01, 7, _UNNAMED),
    (0x02, 7, SOMEBODY),
    (0x04, 5, _UNNAMED),
    (0x10, 7, _UNNAMED),
    (0x20, 5, _UNNAMED),
)


def share(folder: Path) -> None:
    """Only root may give a folder to a group that it is not in: for others the group stays."""
    if os.geteuid() == 0:
        os.chown(folder, -1, SOMEBODY)
    folder.chmod(0o2775)
    entries = b"".join(struct.pack("<HHI", *entry) for entry in _ENTRIES)
    os.setxattr(folder, "system.posix_acl_default", struct.pack("<I", 2) + entries)
