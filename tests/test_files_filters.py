"""rsync's filter rules, told by a table, and compared with the real rsync over generated trees and rules."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klock.errors import ImageError
from klock.files.filters import parse_filter_options
from klock.files.scan import scan

TREE = (
    "important.log",
    "other.log",
    "src/main.py",
    "src/debug.log",
    "src/temp/x",
    "temp/y",
    "a b/ü.txt",
    "deep/er/est/file.txt",
    "deep/er/file.txt",
    "deep/file.txt",
)


def make_tree(root: Path, files: tuple[str, ...] = TREE) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    return root


def selected(source: Path, options: str, *, contents: bool = True, root: Path | None = None) -> set[str]:
    entries = scan(source, root=root or source, contents=contents, filter_options=options, where="step 1 (kimage.py:3)")
    return {entry.path for entry in entries if not entry.is_folder}


CASES = [
    ("case 50: an include before an exclude keeps that one file",
     "--include='important.log' --exclude='*.log'",
     {"other.log", "src/debug.log"}),
    ("the first match wins, so an include after the exclude is too late",
     "--exclude='*.log' --include='important.log'",
     {"important.log", "other.log", "src/debug.log"}),
    ("a trailing slash means folders only", "--exclude='temp/'", {"src/temp/x", "temp/y"}),
    ("a leading slash anchors at the top", "--exclude='/temp'", {"temp/y"}),
    ("a pattern with a slash matches the end of the path", "--exclude='er/file.txt'", {"deep/er/file.txt"}),
    ("* stops at a slash", "--exclude='/deep/*/file.txt'", {"deep/er/file.txt"}),
    ("** does not stop at a slash", "--exclude='/deep/**/file.txt'", {"deep/er/file.txt", "deep/er/est/file.txt"}),
    ("dir/*** is the folder and all in it",
     "--include='/src/***' --exclude='*'", set(TREE) - {"src/main.py", "src/debug.log", "src/temp/x"}),
    ("dir/** alone does not include the folder itself", "--include='/src/**' --exclude='*'", set(TREE)),
    ("? is one character", "--exclude='/?emp'", {"temp/y"}),
    ("a class is one character", "--exclude='/[s-t]em[!q]'", {"temp/y"}),
    ("? is one byte, as in rsync", "--exclude='??.txt'", {"a b/ü.txt"}),
    ("a space needs quotes", "--exclude='/a b'", {"a b/ü.txt"}),
    ("an option's value may be the next word", "--exclude '*.log' --exclude temp",
     {"important.log", "other.log", "src/debug.log", "src/temp/x", "temp/y"}),
    ("--filter takes + and -", "--filter='+ important.log' --filter='- *.log'", {"other.log", "src/debug.log"}),
    ("-f is --filter, _ is a space", "-f -_*.log", {"important.log", "other.log", "src/debug.log"}),
    ("long rule names", "-f 'include important.log' -f 'exclude *.log'", {"other.log", "src/debug.log"}),
    ("a negated rule", "--filter='-! */'", set(TREE)),
    ("! clears the rules before it", "--exclude='*.log' --filter='!' --exclude=/src",
     {"src/main.py", "src/debug.log", "src/temp/x"}),
    ("--exclude='+ x' includes, as old rsync had it", "--exclude='+ important.log' --exclude='*.log'",
     {"other.log", "src/debug.log"}),
]  # fmt: skip


@pytest.mark.parametrize(("options", "left_out"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_rules_select_as_documented(tmp_path: Path, options: str, left_out: set[str]) -> None:
    assert selected(make_tree(tmp_path), options) == set(TREE) - left_out


def test_anchored_rules_see_the_folder_name_unless_contents_are_copied(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "project")
    assert "temp/y" in selected(source, "--exclude=/temp", contents=False)
    assert "temp/y" not in selected(source, "--exclude=/project/temp", contents=False)
    assert "temp/y" in selected(source, "--exclude=/project/temp", contents=True)


def test_rules_are_read_from_files_beside_the_image(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "project")
    (tmp_path / "rules").write_bytes(b"# comment\n; another\n\n+ important.log\r\n*.log\n")
    assert set(TREE) - selected(source, "--exclude-from=rules", root=tmp_path) == {"other.log", "src/debug.log"}
    (tmp_path / "keep").write_text("important.log\n")
    options = "--include-from=keep --exclude='*.log'"
    assert set(TREE) - selected(source, options, root=tmp_path) == {"other.log", "src/debug.log"}


def test_a_users_include_brings_back_what_is_left_out_by_default(tmp_path: Path) -> None:
    make_tree(tmp_path, ("a.pyc", "b.pyc", "out.log"))
    (tmp_path / ".gitignore").write_text("*.log\n")
    assert selected(tmp_path, "") == {".gitignore"}
    assert selected(tmp_path, "--include=a.pyc --include=out.log") == {".gitignore", "a.pyc", "out.log"}


ERRORS = [
    ("--delete", "rsync option --delete is not supported in filter_options"),
    ("--exclude=x --max-size=1m", "rsync option --max-size=1m is not supported in filter_options"),
    ("-avz", "rsync option -avz is not supported in filter_options"),
    ("--files-from=list", "rsync option --files-from=list is not supported in filter_options"),
    ("*.log", "rsync option *.log is not supported in filter_options"),
    ("--exclude", "rsync option --exclude needs a value"),
    ("--exclude=''", "--exclude=: an empty pattern"),
    ("--exclude='x", "filter options cannot be read: no closing quotation: --exclude='x"),
    ("--filter='merge rules'", "filter rule 'merge rules' is not supported"),
    ("--filter=':- .gitignore'", "filter rule ':- .gitignore' is not supported"),
    ("--filter='-/ /etc'", "filter rule '-/ /etc' is not supported"),
    ("--filter='P x'", "filter rule 'P x' is not supported"),
    ("--filter='-'", "filter rule '-' is not supported"),
    ("--exclude-from=none", "cannot read --exclude-from=none: No such file or directory: {root}/none"),
]


@pytest.mark.parametrize(("options", "message"), ERRORS)
def test_case_51_what_is_not_supported_is_an_error(tmp_path: Path, options: str, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        parse_filter_options(options, root=tmp_path, where="step 3 (kimage.py:9)")
    assert caught.value.message == "step 3 (kimage.py:9): " + message.format(root=tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize("contents", [True, False])
def test_a_rule_that_leaves_out_the_source_itself_is_an_error(tmp_path: Path, contents: bool) -> None:
    source = make_tree(tmp_path / "project") / "other.log"
    with pytest.raises(ImageError, match=r"the filter rule '\*\.log' leaves out the source itself"):
        selected(source, "--exclude='*.log'", contents=contents)
    with pytest.raises(ImageError, match=r"the filter rule 'project' leaves out the source itself"):
        selected(source.parent, "--exclude=project", contents=False)
    assert selected(source.parent, "--exclude=project", contents=True) == set(TREE)


# -- the real rsync


def rsync_selects(source: Path, rules: list[str], *, contents: bool) -> set[str]:
    """What `rsync -a` would send: paths relative to the source, folders with a slash."""
    program = shutil.which("rsync")
    assert program, "these tests compare with rsync: apt-get install rsync"
    argument = f"{source}/" if contents else str(source)
    command = [program, "-a", "-8", "--dry-run", "--out-format=%n", *rules, argument, f"{source.parent}/nowhere/"]
    done = subprocess.run(command, capture_output=True, check=True, env={"LC_ALL": "C.UTF-8", "PATH": os.defpath})
    names = set(os.fsdecode(done.stdout).splitlines())
    if contents:
        return names - {"./"}
    prefix = source.name + "/"
    return {name.removeprefix(prefix) for name in names} - {""}


NAMES = st.sampled_from(["a", "b", "ab", "a.b", "foo", "ü", "a b", "[a]", "b\\", "c-d"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PIECES = st.sampled_from(
    [
        *("a", "b", "foo", "ü", "a b", ".b", "ab"),
        *("*", "**", "***", "?", "/", "/", "[a-c]", "[!a]", "[^b]", "[]a]", "[[:alpha:]]", "[a", "[b-]", "[[a]"),
        *("\\", "\\*", "[\\]]", "[z-a]", "[:a:]"),
    ]
)
PATTERNS = st.builds(
    lambda start, pieces, end: start + "".join(pieces) + end,
    st.sampled_from(["", "", "/", "**/"]),
    st.lists(PIECES, min_size=1, max_size=4),
    st.sampled_from(["", "", "/", "/**", "/***"]),
)
RULES = st.builds(
    lambda form, pattern: form + pattern,
    st.sampled_from(["--exclude=", "--exclude=", "--include=", "--filter=- ", "--filter=+ ", "--filter=-! "]),
    PATTERNS,
)


@settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    paths=st.lists(PATHS, min_size=1, max_size=12),
    rules=st.lists(RULES, min_size=1, max_size=5),
    contents=st.booleans(),
)
def test_the_same_files_as_the_real_rsync(tmp_path: Path, paths: list[str], rules: list[str], contents: bool) -> None:
    source = tmp_path / "foo"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    for path in paths:
        file = source / path
        if not file.exists() and not any(parent.is_file() for parent in file.parents):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    expected = rsync_selects(source, rules, contents=contents)
    try:
        entries = scan(source, root=source, contents=contents, filter_options=shlex.join(rules), where="step 1")
    except ImageError as error:
        assert "leaves out the source itself" in error.message
        assert expected == set()
    else:
        assert {entry.path + "/" * entry.is_folder for entry in entries} == expected
