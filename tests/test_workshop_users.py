"""Users are found in an image's own files, in which anything may stand."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from klock.errors import ImageError
from klock.workshop.users import User, find_owner, find_user, reading


def tree(folder: Path, passwd: str, group: str = "") -> str:
    (folder / "etc").mkdir()
    (folder / "etc/passwd").write_text(passwd, "utf-8")
    (folder / "etc/group").write_text(group, "utf-8")
    return str(folder)


@pytest.mark.parametrize("number", ["\N{SUPERSCRIPT TWO}", "9" * 5000, str((1 << 32) - 1), "-1"])
def test_a_number_that_no_account_has_is_not_one(number: str, tmp_path: Path) -> None:
    root = tree(tmp_path, f"odd:x:{number}:{number}::/:\ngood:x:7:8::/:\n", f"odd:x:{number}:good\nbest:x:9:good\n")
    assert find_user(root, "good") == User(uid=7, gid=8, groups=(9,))
    assert find_user(root, "7:best") == User(uid=7, gid=9)
    with pytest.raises(ImageError):
        find_user(root, "odd")
    for text in (number, f"{number}:{number}"):
        with pytest.raises(ImageError):
            find_owner(reading(root), text)


@pytest.mark.parametrize(
    ("text", "ids"), [("good", (7, 8)), ("good:best", (7, 9)), ("good:", (7, 0)), (":best", (0, 9)), ("5", (5, 5))]
)
def test_the_ids_of_an_owner(text: str, ids: tuple[int, int], tmp_path: Path) -> None:
    root = tree(tmp_path, "good:x:7:8::/:\n", "best:x:9:good\n")
    assert find_owner(reading(root), text) == ids


def test_a_file_of_accounts_that_nobody_writes_to_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/passwd")
    assert find_user(str(tmp_path), "5") == User(uid=5, gid=0)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: Path(path).symlink_to("nowhere")])
def test_accounts_that_are_no_file_are_none(make: Callable[[str], None], tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for name in ("passwd", "group"):
        make(str(tmp_path / "etc" / name))
    assert find_user(str(tmp_path), "1000:1000") == User(uid=1000, gid=1000)
    with pytest.raises(ImageError):
        find_user(str(tmp_path), "joe")
