"""An override counts instead of all that is required of its project, for klock as for uv."""

from __future__ import annotations

import os

import pytest

from klock.errors import RequirementError
from klock.packages.overriding import Overriding, lines_of_files
from klock.packages.request import PipRequest, RequestSteering, ScopedRequirement
from klock.packages.roots import read_roots


def line(text: str, origin: str = "pyproject.toml") -> ScopedRequirement:
    return ScopedRequirement(text=text, origin=origin)


def overriding(*texts: str, excluded: tuple[str, ...] = (), metadata: tuple[dict[str, object], ...] = ()) -> Overriding:
    settings = {"dependency-metadata": [*metadata]}
    steering = RequestSteering(overrides=tuple(map(line, texts)), excluded=excluded, settings=settings)
    return Overriding.of([PipRequest(steering=(steering,))], lambda _: None)


REQUIRED = {
    "another version": (["b>=2", "c"], ["b==1"], ["b==1", "c"]),
    "a marker goes": (["b>=2; sys_platform == 'win32'"], ["b==1"], ["b==1"]),
    "a marker comes": (["b"], ["b==1; os_name == 'nt'"], ['b==1; os_name == "nt"']),
    "extras go": (["b[x]>=2"], ["b==1"], ["b==1"]),
    "an extra that it is for stays": (["b>=2; extra == 'x'"], ["b==1"], ['b==1; extra == "x"']),
    "with an extra, other markers go": (
        ["b>=2; python_version < '3' and extra == 'x'"],
        ["b==1; os_name == 'nt'"],
        ['b==1; os_name == "nt" and extra == "x"'],
    ),
    "one of several extras": (
        ["b; extra == 'x' or 'y' == extra"],
        ["b==1"],
        ['b==1; extra == "x" or extra == "y"'],
    ),
    "two, by marker": (
        ["b"],
        ["b==1; os_name == 'nt'", "b==2; os_name != 'nt'"],
        ['b==1; os_name == "nt"', 'b==2; os_name != "nt"'],
    ),
    "names are normalised": (["B.b"], ["b_B==1"], ["b_B==1"]),
    "what is no requirement stays": (["b ==", "c"], ["c==1"], ["b ==", "c==1"]),
}


@pytest.mark.parametrize("case", REQUIRED)
def test_what_a_package_requires(case: str) -> None:
    required, overrides, wanted = REQUIRED[case]
    assert list(overriding(*overrides).requires("a", "1", required)) == wanted


@pytest.mark.parametrize(("version", "wanted"), [("1", ["d"]), ("2", ["b"])])
def test_metadata_of_ones_own_and_what_nobody_gets(version: str, wanted: list[str]) -> None:
    table: dict[str, object] = {"name": "A", "version": "1", "requires-dist": ["d", "e"]}
    found = overriding(excluded=("e",), metadata=(table,)).requires("a", version, ["b", "e"])
    assert list(found) == wanted
    always = overriding(metadata=({"name": "a"},)).requires("a", version, ["b"])
    assert list(always) == []


def test_files_of_the_environment_are_read_as_pip_reads_them() -> None:
    hashed = f"f==1 --hash=sha256:{'0' * 64}"
    files = {
        "/etc/c.txt": b"\xef\xbb\xbfa==1\t# tab\r\nb==\\\r\n2\r\n#c\n--pre\n-c more/d.txt\n-r ../e.txt\n"
        + hashed.encode(),
        "/etc/more/d.txt": b"d<3 ; os_name == 'nt'\n-c d.txt\n",
        "/e.txt": b"a==1\nx @ https://h/x-1.zip\n-c etc/more/../c.txt\n",
    }
    requests = [PipRequest(environment={"PIP_CONSTRAINT": "file:///etc/c.txt /etc/none.txt"})] * 2
    found = lines_of_files(requests, "PIP_CONSTRAINT", lambda path: files.get(os.path.normpath(path)))
    assert [(each.text, each.origin) for each in found] == [
        ("a==1", "/etc/c.txt:1"),
        ("b==2", "/etc/c.txt:2"),
        ("f==1", "/etc/c.txt:8"),
        ('d<3; os_name == "nt"', "/etc/more/d.txt:1"),
        ("x @ https://h/x-1.zip", "/e.txt:2"),
    ]
    assert found[2].hashes == (f"sha256:{'0' * 64}",)


@pytest.mark.parametrize(("line", "path"), [("-c x/none.txt", "/etc/x/none.txt"), ("-r https://h/c", "https://h/c")])
def test_a_file_that_another_one_includes_is_there(line: str, path: str) -> None:
    """Without it a constraint would not hold."""
    with pytest.raises(RequirementError, match=f"^/etc/c.txt:2: {path} is not in the environment$"):
        lines_of_files(
            [PipRequest(environment={"PIP_CONSTRAINT": "/etc/c.txt"})],
            "PIP_CONSTRAINT",
            {"/etc/c.txt": f"a<2\n{line}\n".encode()}.get,
        )


def test_lines_of_the_image() -> None:
    """The override has its own place in messages; a file of UV_OVERRIDE names its line."""
    files = {"/o.txt": b"# ours\nb==1  # for now\n"}
    request = PipRequest(
        requirements=tuple(line(text, "kimage.py:3") for text in ("b[x]>=2; os_name == 'nt'", "c", "d")),
        environment={"UV_OVERRIDE": "/o.txt"},
        steering=(RequestSteering(excluded=("d",)),),
    )
    roots = read_roots([request], Overriding.of([request], files.get))
    assert [(root.scoped.text, root.scoped.origin) for root in roots] == [("b==1", "/o.txt:2"), ("c", "kimage.py:3")]
