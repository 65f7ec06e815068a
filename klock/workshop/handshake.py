"""The pipes between klock and one bubblewrap process, which has the other end of each.

reports   bubblewrap tells the command's exit status, and closes it when all is over
made      bubblewrap says that the command's process is there, its ids not mapped yet
mapped    klock says that they are, by closing it
go        klock says that the command may begin, by closing it; only if it is held back
"""

from __future__ import annotations

import json
import os

__all__ = ["Handshake"]


class Handshake:
    """klock's ends belong to this object, `passed` to bubblewrap: they are closed here once its process has them."""

    def __init__(self, *, held: bool) -> None:
        self._reports, say_report = os.pipe()
        self._made, say_made = os.pipe()
        wait_mapped, self._mapped = os.pipe()
        self._go: int | None = None
        self.passed = [say_report, say_made, wait_mapped]
        self.options = ["--json-status-fd", str(say_report)]
        self.options += ["--info-fd", str(say_made), "--userns-block-fd", str(wait_mapped)]
        if held:
            wait_go, self._go = os.pipe()
            self.passed.append(wait_go)
            self.options += ["--block-fd", str(wait_go)]

    def close_passed(self) -> None:
        """To be called in klock's process after the fork: else a pipe that bubblewrap closes would not end."""
        for descriptor in self.passed:
            os.close(descriptor)

    def wait_until_made(self) -> bool:
        """Whether the command's process is there. False when bubblewrap ended before."""
        said = _read_all(self._made)
        os.close(self._made)
        return bool(said)

    def say_mapped(self) -> None:
        """Lets bubblewrap go on with the ids that the command's process has by now."""
        os.close(self._mapped)

    def say_go(self) -> None:
        """Lets a command that is held back begin."""
        if self._go is not None:
            os.close(self._go)
            self._go = None

    def exit_status(self) -> int | None:
        """The command's, once: waits until all is over. None when bubblewrap could not start it, or was killed."""
        reports = _read_all(self._reports).splitlines()
        os.close(self._reports)
        for report in reports:
            if isinstance(status := json.loads(report).get("exit-code"), int):
                return status
        return None


def _read_all(descriptor: int) -> bytes:
    content = bytearray()
    while chunk := os.read(descriptor, 4096):
        content += chunk
    return bytes(content)
