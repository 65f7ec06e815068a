"""Runs in a container under its own Python (3.8 or newer), with nothing of what is installed: says what files it has.

    ROOT LEFT_OUT [DIGEST]

Prints one JSON line for each path below ROOT, a list of the path, kind, mode, uid, gid, size and content: a file's
SHA-256, or a symlink's text, or null for a file that cannot be read. The first line, `["mounts", [...]]`, names what is
mounted into the container. That is not part of the image, so the script skips it, and it skips what the regular
expression LEFT_OUT matches. The last line is `["end", NUMBER]`, the number of paths.

With DIGEST the script only says whether all files and symlinks together have this digest; the exit status says so too.
Bytecode does not count: Python writes it whenever it may.
"""

# os.path: a script that starts fast on any Python from 3.8 on.

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import sys
from collections.abc import Iterator

KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo"}


def mounts_in(root: str) -> list[str]:
    """Paths relative to `root` (proc_pid_mountinfo(5), the fifth field)."""
    found = set()
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            path = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), line.split(" ")[4])
            if path.startswith(root) and path != root:
                found.add(path[len(root) :].lstrip("/"))
    return sorted(found - {""})


def digest_of(path: str) -> str | None:
    hasher = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            while True:
                chunk = file.read(1 << 20)
                if not chunk:
                    return "sha256:" + hasher.hexdigest()
                hasher.update(chunk)
    except OSError:
        return None


def paths_below(
    root: str, passed_over: set[str], is_left_out: re.Pattern[str]
) -> Iterator[tuple[str, str, os.stat_result]]:
    """Each path that counts with what it is, sorted within its folder."""
    waiting = [""]
    while waiting:
        above = waiting.pop()
        try:
            names = sorted(os.listdir(root + "/" + above))
        except OSError:
            continue
        for name in names:
            path = above + name
            if path in passed_over or is_left_out.fullmatch(path):
                continue
            try:
                status = os.lstat(root + "/" + path)
            except OSError:
                continue
            kind = KINDS.get(stat.S_IFMT(status.st_mode))
            if kind is None:
                continue
            yield path, kind, status
            if kind == "dir":
                waiting.append(path + "/")


def main(root: str, left_out: str, digest: str | None = None) -> int:
    root = "" if root == "/" else root
    is_left_out = re.compile(left_out, re.DOTALL)
    mounts = [path for path in mounts_in(root or "/") if not is_left_out.fullmatch(path)]
    if digest is None:
        print(json.dumps(["mounts", mounts]))
    lines = []
    count = 0
    for path, kind, status in paths_below(root, set(mounts), is_left_out):
        content = None
        if kind == "file":
            content = digest_of(root + "/" + path)
        elif kind == "symlink":
            content = os.readlink(root + "/" + path)
        size = status.st_size if kind == "file" else 0
        line = json.dumps([path, kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, size, content])
        count += 1
        if digest is None:
            print(line)
        elif kind in ("file", "symlink") and not path.endswith(".pyc"):
            lines.append(line)
    if digest is None:
        print(json.dumps(["end", count]))
        return 0
    found = "sha256:" + hashlib.sha256("\n".join(sorted(lines)).encode("ascii")).hexdigest()
    if found == digest:
        print("klock: the files are the locked ones")
        return 0
    print("klock: the files are not the locked ones: `klock fleet check` names them", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
