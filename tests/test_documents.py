"""What strangers wrote is read within bounds, and what is wrong with it is one kind of error."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from klock import lockfile
from klock.documents import read_json, read_toml, shown
from klock.errors import FetchError, KlockError, LockfileError
from klock.lockfile.reading import from_text
from klock.oci.documents import parse_config, parse_manifest
from klock.project import load_settings

JSON: dict[str, str | bytes] = {
    "nested lists": "[" * 100_000 + "]" * 100_000,
    "nested lists that do not end": "[" * 100_000,
    "nested tables": '{"a":' * 5_000 + "1" + "}" * 5_000,
    "deeper than anybody writes": "[" * 65 + "]" * 65,
    "a number of many digits": "1" * 5_000,
    "no number": "[NaN]",
    "infinity": "[-Infinity]",
    "half a character": '["\\ud800"]',
    "half a character in a key": '{"\\udfff": 1}',
    "nothing": "",
    "no UTF-8": b"\xff\xfe[",
}


@pytest.mark.parametrize("case", JSON)
def test_json_that_is_refused(case: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        read_json(JSON[case])


def test_json_that_is_read() -> None:
    assert read_json(b'{"a": [1, "\\ud83d\\ude00", null, 1e5], "\\u00e4": {}}') == {"a": [1, "😀", None, 1e5], "ä": {}}
    assert read_json('["\\udcff"]', any_text=True) == ["\udcff"]


TOML = {
    "nested lists": ("a = 1\nb = " + "[" * 600 + "]" * 600, 2),
    "nested lists over lines": ("a = [\n" * 1 + "[\n" * 600 + "]" * 601, 65),
    "nested inline tables": ("x = " + "{a=" * 600 + "1" + "}" * 600, 1),
    "brackets in text are none": ('t = "[[[["\n' + "b = " + "[" * 600 + "]" * 600, 2),
    "a key of many parts": ("a = 1\n" + ".".join("b" * 3000) + " = 1", 2),
    "a table of many parts": ("\n\n[" + ".".join("b" * 3000) + "]", 3),
}


@pytest.mark.parametrize("case", TOML)
def test_toml_that_nests_too_deeply_names_the_line(case: str) -> None:
    text, line = TOML[case]
    with pytest.raises(ValueError, match=rf"nested .*\(at line {line}\)"):
        read_toml(text)
    with pytest.raises(LockfileError, match=rf"kimage.lock is not valid TOML: it is nested .*\(at line {line}\)"):
        from_text(text)


def test_what_is_shown_of_a_value_is_short() -> None:
    value: list[object] = []
    for _ in range(50_000):
        value = [value]
    assert len(shown(value)) <= 80
    assert shown("x" * 100_000) == "'" + "x" * 76 + "..."
    assert shown(10**5000) == "int"
    assert shown("a") == "'a'"


HEAD = 'lock-version = "1.0"\nnormalisation = 1\n'
TAIL = "\n# end of the lockfile\n"
BASE = '[[base]]\nkind = "debian"\nsuite = "bookworm"\npackages = []\ndebs = []\ntree = "sha256:' + "0" * 64 + '"\n'
LOCKS = {
    "targets are nested": (HEAD + "targets = " + "[" * 600 + "]" * 600, "nested too deeply (at line 3)"),
    "targets are lists": (HEAD + 'targets = [["x"]]\n', "targets: an array of at least one target"),
    "a target stands twice": (HEAD + 'targets = ["linux/amd64/cpu", "linux/amd64/cpu"]\n', "targets: one of them"),
    "targets of a table are lists": (
        HEAD + 'targets = ["linux/amd64/cpu"]\n' + BASE + 'targets = [["x"]]\n',
        "base[0].targets: ['x'] is not one of",
    ),
    "targets of a table are a table": (
        HEAD + 'targets = ["linux/amd64/cpu"]\n' + BASE + "targets = {a = 1}\n",
        "base[0].targets: {'a': 1} is not one of",
    ),
    "tables that are numbers": (HEAD + 'targets = ["linux/amd64/cpu"]\nbase = [1]\n', "base: an array of tables"),
    "a huge version": (HEAD.replace("= 1\n", f"= {'9' * 5000}\n"), "is not valid TOML"),
    "a key twice": (HEAD + "normalisation = 1\n", "is not valid TOML: Cannot overwrite a value (at line 3"),
    "no number": (HEAD.replace("= 1\n", "= nan\n") + 'targets = ["linux/amd64/cpu"]\n', "normalisation: an integer"),
    "half a character": (HEAD + 'targets = ["\\ud800"]\n', "is not valid TOML"),
    "a kind that is a list": (
        HEAD + 'targets = ["linux/amd64/cpu"]\n[[base]]\nkind = ["oci"]\n',
        "base[0].kind: ['oci'] is not one of",
    ),
    "NUL in a text": (
        HEAD + 'targets = ["linux/amd64/cpu"]\n' + BASE.replace("bookworm", "book\\u0000worm"),
        "base[0].suite: 'book\\x00worm' has a NUL character in it",
    ),
    "a size that no file has": (
        HEAD + 'targets = ["linux/amd64/cpu"]\n' + BASE + "[[steps]]\nkind = 'run_bash'\ncommand = 'x'\nlayer = "
        f"{{digest = 'sha256:{'0' * 64}', files = {10**30}, size = 1}}\n",
        "steps[0].layer.files: 1000000000000000000000000000000 is too large",
    ),
    "a package of odd types": (
        HEAD + 'targets = ["linux/amd64/cpu"]\n' + BASE + '[[packages]]\nname = "a"\nversion = "1"\n'
        f'wheels = [{{name = "a-1-py3-none-any.whl", url = "u", size = 1, hashes = {{sha256 = "{"0" * 64}"}}}}]\n'
        "dependencies = [{name = [1]}]\n",
        "packages[0].dependencies[0]: an array where a string is expected",
    ),
    "a package that is built with numbers": (
        HEAD + 'targets = ["linux/amd64/cpu"]\n' + BASE + '[[packages]]\nname = "a"\nversion = "1"\n'
        'vcs = {type = "git", url = [1], commit-id = "c"}\n[packages.tool.klock]\n'
        f'built-wheel = {{name = "a-1-py3-none-any.whl", size = 1, hashes = {{sha256 = "{"0" * 64}"}}}}\n',
        "packages[0].artifact.url: an array where a string is expected",
    ),
    "a URL that is none": (
        HEAD + 'targets = ["linux/amd64/cpu"]\n' + BASE + '[[packages]]\nname = "a"\nversion = "1"\n'
        'wheels = [{name = "a-1-py3-none-any.whl", url = "https://[::1/a", size = 1, '
        f'hashes = {{sha256 = "{"0" * 64}"}}}}]\n',
        "packages: a==1: 'https://[::1/a' is not a URL",
    ),
    "a wheel that is a number": (
        HEAD + 'targets = ["linux/amd64/cpu"]\n' + BASE + '[[packages]]\nname = "a"\nversion = "1"\nwheels = [1]\n',
        "packages[0].wheels[0]: a table is expected",
    ),
}


@pytest.mark.parametrize("case", LOCKS)
def test_a_lockfile_of_odd_shape_names_the_place(case: str) -> None:
    text, place = LOCKS[case]
    with pytest.raises(LockfileError) as caught:
        from_text(text + TAIL)
    assert caught.value.message.startswith("kimage.lock")
    assert place in caught.value.message
    assert len(caught.value.message) < 400


def test_a_lockfile_of_100_megabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "kimage.lock"
    with open(path, "wb") as file:
        file.truncate(100_000_000)
    begin = time.monotonic()
    with pytest.raises(LockfileError, match=r"kimage\.lock is not a lockfile: it is longer than 64 MiB"):
        lockfile.read(path)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("text", [text for text, _ in TOML.values()])
def test_settings_that_nest_too_deeply(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(KlockError, match=r"cannot read .*pyproject\.toml: it is nested"):
        load_settings(tmp_path)


def test_a_setting_of_odd_type_is_shown_in_short(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.klock]\nengine = " + "[" * 60 + "]" * 60)
    with pytest.raises(KlockError) as caught:
        load_settings(tmp_path)
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("case", JSON)
def test_documents_of_a_registry(case: str) -> None:
    content = JSON[case]
    content = content.encode() if isinstance(content, str) else content
    for read in (
        lambda: parse_manifest(content, media_type=None, name="h/x"),
        lambda: parse_config(content, name="h/x"),
    ):
        with pytest.raises(FetchError, match="h/x is damaged"):
            read()


def test_a_config_whose_variables_are_no_text() -> None:
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}}
    content = json.dumps({**config, "config": {"Env": ["A=\ud800"]}}).encode()
    with pytest.raises(FetchError, match="h/x is damaged"):
        parse_config(content, name="h/x")
