"""Modes as `--chmod` names them: what the real chmod makes of them."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from klock.errors import ImageError
from klock.files.modes import changed_mode, check_mode

MODES = (
    *(
        "755",
        "0644",
        "00755",
        "7",
        "4711",
        "u=rwX,go=rX",
        "a=rX",
        "+x",
        "u+x,go-r",
        "g=u",
        "o=g-w",
        "go=u-w,u+s",
        "ug+s",
    ),
    *("a-x+X", "g+o,o=", "=", "u=g,g=o,o=u", "a+t", "ugo=rw"),
)


@pytest.mark.parametrize("text", MODES)
@pytest.mark.parametrize(
    ("before", "is_folder"),
    # Of a folder, coreutils keeps the bits of 4600 whatever it is told.
    [(0o644, False), (0o750, False), (0o751, False), (0o4600, False), (0o644, True), (0o750, True), (0o751, True)],
)
def test_a_mode_is_what_chmod_makes_of_it(text: str, before: int, is_folder: bool, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.mkdir() if is_folder else path.touch()
    path.chmod(before)
    # Without a letter for whom, chmod asks the umask.
    subprocess.run(["chmod", "--", text, path], check=True, umask=0)
    assert oct(changed_mode(before, check_mode(text), is_folder=is_folder)) == oct(stat.S_IMODE(path.stat().st_mode))


@pytest.mark.parametrize("text", ["", "8", "17777", "rwx", "u", "u+q", "+x,", "x=r", "u=r;g=r"])
def test_what_is_not_a_mode(text: str) -> None:
    with pytest.raises(ImageError, match="is not a mode"):
        check_mode(text)
