"""What is left out by default: a table, and the real git over generated ignore files."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klock.files.scan import scan


def selected(source: Path, *, root: Path | None = None) -> set[str]:
    entries = scan(source, root=root or source, contents=True, filter_options=None, where="step 1")
    return {entry.path + "/" * entry.is_folder for entry in entries}


def make(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


CASES: list[tuple[str, dict[str, str], set[str]]] = [
    ("byte code, virtual environments and version control are left out",
     {"a.py": "", "a.pyc": "", "__pycache__/a.cpython-311.pyc": "", ".venv/bin/python": "", ".git/config": "",
      "sub/.venv/x": "", "sub/b.py": "", ".env": "", "sub/.git": "gitdir: elsewhere"},
     {"a.py", "sub/", "sub/b.py", ".env"}),
    ("a whitelist in .gitignore does not bring them back",
     {".gitignore": "*\n!*/\n!*.py\n!*.pyc\n", "a.py": "", "a.txt": "", "a.pyc": "", ".venv/x.py": "", "d/b.py": ""},
     {"a.py", "d/", "d/b.py"}),
    ("the last matching line decides",
     {".gitignore": "*.log\n!keep.log\n", "a.log": "", "keep.log": "", "d/keep.log": ""},
     {".gitignore", "keep.log", "d/", "d/keep.log"}),
    ("nothing comes back from below a folder that is left out",
     {".gitignore": "data/\n!data/keep\n", "data/keep": "", "data/x": ""}, {".gitignore"}),
    ("but from a folder whose contents are left out it does",
     {".gitignore": "data/**\n!data/keep\n", "data/keep": "", "data/x": ""}, {".gitignore", "data/", "data/keep"}),
    ("a slash anchors a line to its file's folder",
     {".gitignore": "/build\nsub/out\n", "build/x": "", "sub/build/x": "", "sub/out": "", "sub/sub/out": ""},
     {".gitignore", "sub/", "sub/build/", "sub/build/x", "sub/sub/", "sub/sub/out"}),
    ("a nested file counts below its folder, and before those above",
     {".gitignore": "*.txt\n", "a.txt": "", "sub/.gitignore": "!*.txt\n/b.md\n", "sub/a.txt": "", "sub/b.md": "",
      "b.md": ""},
     {".gitignore", "sub/", "sub/.gitignore", "sub/a.txt", "b.md"}),
    ("a trailing slash means folders only",
     {".gitignore": "out/\n", "out/x": "", "sub/out": ""}, {".gitignore", "sub/", "sub/out"}),
    (".ktignore decides over .gitignore, .klockignore over both",
     {".gitignore": "a\nb\nc\n", ".ktignore": "!a\n!b\nd\n", ".klockignore": "a\n!d\n",
      "a": "", "b": "", "c": "", "d": ""},
     {".gitignore", ".ktignore", ".klockignore", "b", "d"}),
    ("comments, blank lines, escapes, trailing spaces, CRLF and a byte order mark",
     {".gitignore": "\ufeffa\r\n# b\n\n\\#c\n\\!d\ne   \nf\\ \n",
      "a": "", "b": "", "#c": "", "!d": "", "e": "", "f ": "", "# b": ""},
     {".gitignore", "b", "# b"}),
    ("spaces and other scripts",
     {".gitignore": "a b/\n日本*\n", "a b/x": "", "日本語.txt": "", "日.txt": ""}, {".gitignore", "日.txt"}),
]  # fmt: skip


@pytest.mark.parametrize(("files", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_case_49_default_exclusions(tmp_path: Path, files: dict[str, str], expected: set[str]) -> None:
    assert selected(make(tmp_path, files)) == expected


def test_ignore_files_above_the_source_count_up_to_the_root_of_the_repository(tmp_path: Path) -> None:
    make(tmp_path, {".gitignore": "*.a\n", "repo/.gitignore": "*.b\n", "repo/app/src/x.a": "", "repo/app/src/x.b": ""})
    make(tmp_path, {"repo/app/.gitignore": "*.c\n", "repo/app/src/x.c": "", "repo/.git/config": ""})
    assert selected(tmp_path / "repo/app/src", root=tmp_path / "repo/app") == {"x.a"}


def test_without_a_repository_they_count_from_the_images_folder(tmp_path: Path) -> None:
    make(tmp_path, {".gitignore": "*.a\n", "app/.gitignore": "*.b\n", "app/src/x.a": "", "app/src/x.b": ""})
    assert selected(tmp_path / "app/src", root=tmp_path / "app") == {"x.a"}
    assert selected(tmp_path / "app/src", root=tmp_path / "elsewhere") == {"x.a", "x.b"}


def test_what_a_step_names_is_never_left_out_by_default(tmp_path: Path) -> None:
    make(tmp_path, {".gitignore": "build/\n*.pt\n", "build/x": "", "model.pt": "weights"})
    assert selected(tmp_path / "build", root=tmp_path) == {"x"}
    entries = scan(tmp_path / "model.pt", root=tmp_path, contents=False, filter_options=None, where="step 1")
    assert [entry.path for entry in entries] == [""]


def test_an_ignore_file_that_is_a_symlink_is_a_file_like_others(tmp_path: Path) -> None:
    make(tmp_path, {"rules": "*.a\n", "x.a": ""})
    (tmp_path / ".gitignore").symlink_to("rules")
    assert selected(tmp_path) == {".gitignore", "rules", "x.a"}


# -- the real git

NAMES = st.sampled_from(["a", "b", "ab", "a.b", "foo", "ü", "a b", "#a", "!b", "a "])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PIECES = st.sampled_from(
    [
        *("a", "b", "foo", "ü", "a b", ".b", "ab", " ", "#", "!"),
        *("*", "**", "***", "?", "/", "/", "**/", "/**", "[a-c]", "[!a]", "[^b]", "[]a]", "[[:alpha:]]", "[a", "[b-]"),
        *("\\", "\\ ", "\\*", "\\#", "\\!", "[z-a]"),
    ]
)
LINES = st.builds(
    lambda start, pieces, end: start + "".join(pieces) + end,
    st.sampled_from(["", "", "!", "/", "!/", "**/", "!**/", "# "]),
    st.lists(PIECES, min_size=1, max_size=4),
    st.sampled_from(["", "", "/", "/**", " ", "/*"]),
)


def git(*arguments: str, cwd: Path) -> set[str]:
    program = shutil.which("git")
    assert program, "these tests compare with git: apt-get install git"
    environment = {"HOME": str(cwd), "PATH": os.defpath, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    command = [program, "-c", "core.quotepath=off", *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, check=True)
    return set(os.fsdecode(done.stdout).split("\0")) - {""}


@settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    paths=st.lists(PATHS, min_size=1, max_size=12),
    lines=st.lists(LINES, min_size=1, max_size=6),
    nested=st.lists(LINES, max_size=3),
)
def test_the_same_files_as_the_real_git(tmp_path: Path, paths: list[str], lines: list[str], nested: list[str]) -> None:
    source = tmp_path / "repo"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    git("init", "-q", ".", cwd=source)
    for path in paths:
        file = source / path
        if not file.exists() and not any(parent.is_file() for parent in file.parents):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    (source / ".gitignore").write_text("\n".join(lines))
    if nested and (source / "a").is_dir():
        (source / "a/.gitignore").write_text("\n".join(nested))
    listed = git("ls-files", "-z", "--others", "--exclude-per-directory=.gitignore", cwd=source)
    assert {path for path in selected(source) if not path.endswith("/")} == listed
