"""The recorder's process, which begins as a copy of klock's."""

from __future__ import annotations

import gc
import os
from pathlib import Path

from klock.recorder.process import _drop_descriptors


class Holder:
    """A file in a cycle: only the collector of cycles ends it, at some later time."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")
        self.itself = self


def test_what_klock_had_open_closes_nothing_of_the_recorders(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch()
    gc.disable()
    try:
        held = [Holder(path) for _ in range(20)]
        numbers = {each.file.fileno() for each in held}
        child = os.fork()
        if child == 0:
            status = 1
            try:
                _drop_descriptors(set())
                opened = [os.open(path, os.O_RDONLY) for _ in range(max(numbers) + 1)]
                assert numbers <= set(opened)
                held.clear()
                gc.collect()
                for number in opened:
                    os.fstat(number)
                status = 0
            finally:
                os._exit(status)
        held.clear()
    finally:
        gc.enable()
    assert os.waitpid(child, 0)[1] == 0
