"""Runs in the container, as its first process: starts klock, and packs what klock changed of the project.

/klock/run.json has arguments, folder, project, variables and which changed files are wanted. It is removed first: it
holds the user's variables, which no inspection of the container shows.
"""

from __future__ import annotations

import fnmatch
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile

FOLDER = "/klock"
PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def files_in(project: str) -> dict[str, tuple[int, int, int]]:
    found = {}
    for folder, folders, names in os.walk(project):
        # A hook that is planted there would run on the user's machine.
        folders[:] = [name for name in folders if name != ".git"]
        for name in names:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                found[os.path.relpath(path, project)] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return found


def main() -> int:
    with open(FOLDER + "/run.json", encoding="utf-8") as file:
        asked = json.load(file)
    os.unlink(FOLDER + "/run.json")
    project, wanted = asked["project"], asked["wanted"]
    before = files_in(project) if wanted else {}
    process = subprocess.Popen(
        [sys.executable, "-m", "klock", *asked["arguments"]],
        cwd=asked["folder"],
        env={**os.environ, **asked["variables"]},
    )
    # A terminal gives its signals to klock, too; an engine gives them to this process alone.
    has_terminal = os.isatty(0)
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: None if has_terminal else process.send_signal(number))
    status = process.wait()
    if wanted:
        now = files_in(project)
        changed = sorted(path for path, facts in now.items() if before.get(path) != facts)
        with tarfile.open(FOLDER + "/changed.tar", "w") as archive:
            for path in changed:
                if any(fnmatch.fnmatch(path, pattern) for pattern in wanted):
                    archive.add(os.path.join(project, path), arcname=path, recursive=False)
    return 128 - status if status < 0 else status


if __name__ == "__main__":
    sys.exit(main())
