"""Where credentials are looked for in what a step wrote: in all that becomes part of its layer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from klock.lockfile.model import LayerLock, OciBlob, OciLock, ShellLock, TargetLock
from klock.steps.at import StepAt
from klock.steps.searching import paths_in_layer_with
from klock.targets import Target

LAYER = LayerLock(digest="sha256:" + "0" * 64, files=0, size=0)
BLOB = OciBlob(digest="sha256:" + "0" * 64, size=1, media_type="x")
BASE = OciLock(reference="x", index_digest=None, manifest=BLOB, config=BLOB, layers=(), environment=())
WRITTEN = ["/etc/x", "/srv/out", "/tmp/kept/below", "/tmp/other", "/var/log/dpkg.log"]


class Written:
    def find(self, values: Sequence[bytes]) -> list[str]:
        return WRITTEN if b"secret" in values else []


@pytest.mark.parametrize(
    ("keep", "leave_out", "expected"),
    [
        ((), (), ["/etc/x", "/srv/out"]),
        # A later instruction of the Dockerfile names it, so that it is in the layer.
        (("/tmp/kept",), (), ["/etc/x", "/srv/out", "/tmp/kept/below"]),
        (("/tmp/*",), ("/srv/*",), ["/etc/x", "/tmp/kept/below", "/tmp/other"]),
        (("/tmp/*",), ("/tmp/kept",), ["/etc/x", "/srv/out", "/tmp/other"]),
    ],
)
def test_what_is_in_the_layer(keep: tuple[str, ...], leave_out: tuple[str, ...], expected: list[str]) -> None:
    step = ShellLock(command="x", layer=LAYER, keep=keep, leave_out=leave_out)
    lock = TargetLock(target=Target(), base=BASE, interpreter=None, steps=(step,), packages=())
    at: StepAt[ShellLock] = StepAt(lock=lock, position=0)
    assert paths_in_layer_with([b"secret"], at, Written()) == expected
    assert paths_in_layer_with([], at, Written()) == []
