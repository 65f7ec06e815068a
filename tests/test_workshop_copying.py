"""COPY --from between two trees: what is said of a path that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from klock.errors import ImageError
from klock.workshop.copying import copy_between
from klock.workshop.protocol import TreeCopy

LEFT_OUT = "layers leave {} out, as docs/layers.md says: have the stage write it to another folder"


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/srv/x", "check the path, and the stage before it"),
        ("/run/x", LEFT_OUT.format("/run/x")),
        ("/root/.cache/pip", LEFT_OUT.format("/root/.cache/pip")),
    ],
)
def test_a_path_that_is_not_there(path: str, hint: str, tmp_path: Path) -> None:
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
    wanted = TreeCopy(name="build", base="", layers=[], sources=[path], destination="/x")
    with pytest.raises(ImageError, match=f"^build has no {path}$") as caught:
        copy_between(str(tmp_path / "from"), str(tmp_path / "to"), wanted, None)
    assert caught.value.hint == hint
