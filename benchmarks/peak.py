"""A program: runs a command, and writes how it ended, its wall time, CPU time and peak memory as JSON.

    python -I -S peak.py RESULT COMMAND...

A process of its own and without imports, because Linux counts what a process was before its exec(2) to its peak:
started from a large parent, every command would seem to need at least as much as that parent. See getrusage(2).
"""

from __future__ import annotations

import os
import sys
import time


def main() -> None:
    result, *command = sys.argv[1:]
    begin = time.monotonic_ns()
    child = os.fork()
    if child == 0:
        try:
            os.execvp(command[0], command)
        finally:
            os._exit(127)
    # The peak of the largest among the command and all descendants that were waited for.
    _, status, usage = os.wait4(child, 0)
    seconds = (time.monotonic_ns() - begin) / 1e9
    cpu = usage.ru_utime + usage.ru_stime
    code = os.waitstatus_to_exitcode(status)
    with open(result, "w", encoding="ascii") as file:
        file.write(f'{{"status": {code}, "seconds": {seconds:.6f}, "cpu": {cpu:.6f}, "peak_kib": {usage.ru_maxrss}}}')


if __name__ == "__main__":
    main()
