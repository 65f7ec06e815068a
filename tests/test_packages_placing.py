"""What is locked is what it was taken for: its hashes, its name and version, and what it requires."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from klock.digests import hashes_like
from klock.errors import HashMismatch, ResolutionError
from klock.lockfile.model import Interpreter, LockedPackage, WheelArtifact
from klock.packages.interpreter import InstalledDistribution, TargetPython
from klock.packages.placing import check_hashes, check_names, strays
from klock.packages.request import PipRequest, ScopedRequirement
from klock.packages.resolver import Answer
from klock.packages.roots import read_roots
from klock.packages.selection import SelectedFile, SelectedPackage
from klock.packages.wheels import WheelMetadata
from klock.store import Store

CONTENT = b"a wheel"
HASHES = {
    **{name: hashlib.new(name, CONTENT, usedforsecurity=False).hexdigest() for name in ("md5", "sha512", "blake2b")},
    "sha3_256": hashlib.sha3_256(CONTENT).hexdigest(),
}
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("algorithm", HASHES)
def test_the_hashes_of_a_file(tmp_path: Path, algorithm: str) -> None:
    (tmp_path / "f").write_bytes(CONTENT)
    good = f"{algorithm}:{HASHES[algorithm]}"
    assert hashes_like([f"{algorithm}:0", good], tmp_path / "f") == {f"{algorithm}:0": good, good: good}


@pytest.mark.parametrize("unknown", ["crc99:12", "shake_128:12", "no hash"])
def test_an_algorithm_that_nobody_knows_says_nothing(tmp_path: Path, unknown: str) -> None:
    (tmp_path / "f").write_bytes(CONTENT)
    assert hashes_like([unknown], tmp_path / "f") == {}


ALLOWED = [f"sha512:{HASHES['sha512']}", f"sha256:{SHA256}"]


@pytest.mark.parametrize("allowed", ALLOWED)
@pytest.mark.parametrize("other", ["crc99:12", "shake_128:12", "md5:12"])
def test_a_file_has_a_hash_that_its_line_allows(tmp_path: Path, allowed: str, other: str) -> None:
    """One that nobody can check allows nothing."""
    store = Store(tmp_path)
    store.add_blob(iter([CONTENT]), source="here")
    wheel = WheelArtifact(name="a-1.0-py3-none-any.whl", url="https://h/w", size=len(CONTENT), sha256=SHA256)
    package = LockedPackage(name="a", version="1.0", index="https://h", artifact=wheel)
    answer = Answer(packages=(), index={}, warnings=())

    def check(*hashes: str) -> None:
        line = ScopedRequirement(text="a==1.0", origin="pylock.toml: packages[0]", hashes=hashes)
        check_hashes(read_roots([PipRequest(requirements=(line,))]), [package], answer, store)

    check(other, allowed)
    with pytest.raises(HashMismatch, match=r"^pylock.toml: packages\[0\]: a==1.0 is a-1.0-py3-none-any.whl with "):
        check(other)


NAMES = {
    ("a-b", "1.0"): None,
    ("a-b", "1.0.0"): None,
    ("other", "1.0"): "a_b-1.0-py3-none-any.whl says of itself that it is other 1.0, and not a-b==1.0",
    ("a-b", "9"): "a_b-1.0-py3-none-any.whl says of itself that it is a-b 9, and not a-b==1.0",
    ("a-b", "1.0+x"): "a_b-1.0-py3-none-any.whl says of itself that it is a-b 1.0+x, and not a-b==1.0",
    ("a-b", "odd"): "a_b-1.0-py3-none-any.whl says of itself that it is a-b odd, and not a-b==1.0",
}


@pytest.mark.parametrize(("name", "version"), NAMES)
def test_a_wheel_is_of_the_project_and_version_of_its_file(name: str, version: str) -> None:
    wheel = WheelArtifact(name="a_b-1.0-py3-none-any.whl", url="https://h/w", size=1, sha256="0" * 64)
    package = LockedPackage(name="a-b", version="1.0", index="https://h", artifact=wheel)
    metadata, message = WheelMetadata(name=name, version=version), NAMES[name, version]
    if message is None:
        check_names(package, metadata)
        return
    with pytest.raises(ResolutionError) as caught:
        check_names(package, metadata)
    assert caught.value.message == message


STRAYS: dict[str, tuple[dict[str, list[str]], list[str]]] = {
    "nothing": ({"a": ["b", "base>=1", "c; os_name == 'nt'", "d; extra == 'x'"], "b": []}, []),
    "what an index alone requires": (
        {"a": [], "b": []},
        ["b is not installed: an index says that a package requires it, and the package does not say so"],
    ),
    "what a wheel alone requires": (
        {"a": ["b", "c", "d"], "b": []},
        ["a requires c, d, which is not installed: its index does not say so"],
    ),
    "what the lock of another tool leaves out": ({"a": ["b"], "b": [], "locked": ["c"]}, []),
}


@pytest.mark.parametrize("case", STRAYS)
def test_indexes_that_say_something_else_than_wheels(case: str) -> None:
    requires, wanted = STRAYS[case]
    interpreter = Interpreter(path="/p", version="3.11.2", implementation="cpython", libc="", sha256="")
    base = InstalledDistribution(name="base", version="1", requires=(), extras=())
    python = TargetPython(interpreter=interpreter, markers={"os_name": "posix"}, tags=(), installed=(base,))
    source = SelectedFile(name="", url="", size=1, sha256="")
    chosen = [SelectedPackage(name=name, version="1", source=source) for name in requires]
    led_to = {text.partition(";")[0] for texts in requires.values() for text in texts if ";" not in text}
    reached = {name: frozenset[str]() for name in requires if name in {"a", "locked", *led_to}}
    assert list(strays(chosen, reached, requires, python, locked=["locked"])) == wanted
