"""Conda packages: what their archives say is checked, and their files lie as conda would lay them."""

from __future__ import annotations

import bz2
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import klock as kt
from klock.conda.archives import unpacked
from klock.conda.channels import channel_urls, resolved_spec, subdirs
from klock.conda.layout import Laid, Python, laid_out, record_of
from klock.errors import CredentialError, FetchError, ImageError, LockfileError
from klock.files.placed import PlacedFile
from klock.image.conda import read_spec_file
from klock.image.steps import CondaInstall, PipInstall, SetEnvVars
from klock.lockfile.model import CondaLock, CondaPackage, TargetLock
from klock.lockfile.names import check_names
from klock.progress import Quiet
from klock.steps.conda.locking import refuse_credentials, resolved_channels
from klock.steps.conda.packages import is_to_be_activated, say_what_differs
from klock.steps.kind import UNKNOWN_LAYER
from klock.targets import Target
from tests.memory_workshop import memory_context
from tests.test_dockerfile import BASE

PACKAGE = CondaPackage(
    name="x", version="1", build="0", url="https://h/c/linux-64/x-1-0.tar.bz2", sha256="0" * 64, size=1
)
PLACEHOLDER = "/placeholder_" + "p" * 60
PYTHON = Python(version="3.12", site_packages="lib/python3.12/site-packages")


def write(folder: Path, *members: tuple[str, bytes | str], **info: object) -> Path:
    """A `.tar.bz2`: text is the target of a symlink; of a name that ends in `=` it is that of a hard link."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        described = [(f"info/{name}.json", json.dumps(value).encode()) for name, value in info.items()]
        for name, content in (*members, *described):
            member = tarfile.TarInfo(name.removesuffix("="))
            if isinstance(content, str):
                member.type = tarfile.LNKTYPE if name.endswith("=") else tarfile.SYMTYPE
                member.linkname = content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    path = folder / "x.tar.bz2"
    path.write_bytes(bz2.compress(raw.getvalue()))
    return path


def laid(folder: Path, archive: Path, *, prefix: str = "/opt/conda", python: Python | None = PYTHON) -> list[Laid]:
    place = folder / "unpacked"
    place.mkdir()
    return list(laid_out(unpacked(archive, place, name="x-1-0.tar.bz2"), prefix, python))


def listing(*paths: str, **fields: str) -> dict[str, object]:
    return {"paths": [{"_path": path, "path_type": "hardlink", **fields} for path in paths], "paths_version": 1}


HOSTILE: dict[str, list[tuple[str, bytes | str]]] = {
    "a member outside": [("../x", b"x")],
    "an absolute member": [("/etc/passwd", b"x")],
    "a hard link outside": [("a=", "../../etc/passwd")],
    "a hard link to what is not there": [("a=", "b")],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive(case: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"^x-1-0.tar.bz2 is broken: "):
        laid(tmp_path, write(tmp_path, *HOSTILE[case]))


BROKEN_LISTS: dict[str, tuple[object, str]] = {
    "a path outside": (listing("../x"), "leads out of the environment"),
    "a file that is not there": (listing("y"), "has no 'y', which it lists"),
    "an entry without a path": ({"paths": [{}]}, "info/paths.json has no path"),
    "no table": ([], "info/paths.json is not a table"),
}


@pytest.mark.parametrize("case", BROKEN_LISTS)
def test_a_list_that_cannot_be(case: str, tmp_path: Path) -> None:
    value, message = BROKEN_LISTS[case]
    with pytest.raises(FetchError, match=message):
        laid(tmp_path, write(tmp_path, ("x", b"x"), paths=value))


def test_noarch_needs_a_python(tmp_path: Path) -> None:
    archive = write(
        tmp_path, ("site-packages/a.py", b""), index={"noarch": "python"}, paths=listing("site-packages/a.py")
    )
    with pytest.raises(FetchError, match="is for any Python, and the environment has none"):
        laid(tmp_path, archive, python=None)


def test_no_room_for_the_place(tmp_path: Path) -> None:
    paths = listing("b", prefix_placeholder="/short", file_mode="binary")
    with pytest.raises(FetchError, match="has no room for the place /opt/conda"):
        laid(tmp_path, write(tmp_path, ("b", b"/short/x\0"), paths=paths))


@given(st.lists(st.binary(max_size=30).map(lambda text: text.replace(b"\0", b"")), max_size=5))
def test_a_binary_keeps_its_length_and_its_other_bytes(texts: list[bytes]) -> None:
    from klock.conda.archives import Unpacked
    from klock.conda.layout import _in_binary

    place, prefix = PLACEHOLDER.encode(), b"/opt/conda"
    content = b"".join(text + place + text + b"\0" + text + b"\0" for text in texts)
    found = _in_binary(content, place, prefix, Unpacked(name="x"), "b")
    assert len(found) == len(content)
    strings = [text for text in found.split(b"\0") if text]
    expected = [each for text in texts for each in (text + prefix + text, text) if each]
    assert strings == expected


def test_what_lies_where(tmp_path: Path) -> None:
    plain = [{"_path": path} for path in ("site-packages/a.py", "l", "h")]
    folder = {"_path": "var/empty", "path_type": "directory"}
    placed = [{"_path": "sh", "prefix_placeholder": PLACEHOLDER, "file_mode": "text"}]
    archive = write(
        tmp_path,
        ("site-packages/a.py", b"a"),
        ("l", "site-packages/a.py"),
        ("h=", "site-packages/a.py"),
        ("sh", f"#!{PLACEHOLDER}/bin/sh".encode()),
        index={"noarch": "python", "name": "x"},
        link={"noarch": {"type": "python", "entry_points": ["cmd = a.b:C.d"]}},
        paths={"paths": [*plain, *placed, folder]},
    )
    found = laid(tmp_path, archive)
    assert [each.path for each in found] == [
        "bin/cmd",
        "h",
        "l",
        "lib/python3.12/site-packages/a.py",
        "sh",
        "var/empty",
    ]
    assert [each.path for each in found if each.is_folder] == ["var/empty"]
    script = next(each.content for each in found if each.path == "bin/cmd")
    assert script is not None
    assert b"#!/opt/conda/bin/python3.12\n" in script
    assert b"from a.b import C\n" in script
    assert next(each.content for each in found if each.path == "sh") == b"#!/opt/conda/bin/sh"
    record = record_of(PACKAGE, unpacked(archive, _empty(tmp_path), name="x.tar.bz2"), found, asked="x>=1")
    assert record.path == "conda-meta/x-1-0.json"
    said = json.loads(record.content or b"")
    assert (said["files"], said["requested_spec"]) == ([each.path for each in found], "x>=1")
    kinds = {entry["_path"]: entry["path_type"] for entry in said["paths_data"]["paths"]}
    assert (kinds["h"], kinds["l"], kinds["var/empty"]) == ("hardlink", "softlink", "directory")


def test_the_last_of_a_name_counts(tmp_path: Path) -> None:
    archive = write(
        tmp_path, ("a", b"1"), ("./a", b"22"), ("b", "a"), ("b", b"3"), ("c", b"4"), paths=listing("./a", "b", "c")
    )
    found = laid(tmp_path, archive)
    assert [(each.path, each.source.read_bytes() if each.source else b"") for each in found] == [
        *(("a", b"22"), ("b", b"3"), ("c", b"4"))
    ]


def test_two_packages_with_one_path(tmp_path: Path) -> None:
    def files(**contents: str) -> list[PlacedFile]:
        return [PlacedFile(path=path, mode=0o644, source=tmp_path, digest=text) for path, text in contents.items()]

    progress = Noting()
    context = replace(memory_context(tmp_path), progress=progress)
    by_path: dict[str, tuple[str, PlacedFile]] = {}
    say_what_differs(by_path, PACKAGE, files(same="1", other="1", own="1"), context)
    say_what_differs(by_path, replace(PACKAGE, name="y"), files(same="1", other="2"), context)
    assert progress.notes == ["x and y both have other: that of y counts"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("etc/conda/activate.d/x.sh", True),
        ("etc/conda/env_vars.d/x.json", True),
        ("etc/conda/activate.d/x.fish", False),
        ("etc/conda/deactivate.d/x.sh", False),
    ],
)
def test_what_is_to_be_activated(path: str, expected: bool) -> None:
    assert is_to_be_activated([Laid(path=path, mode=0o644, content=b"")]) is expected


class Noting(Quiet):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def _empty(folder: Path) -> Path:
    (folder / "again").mkdir()
    return folder / "again"


def test_where_channels_are() -> None:
    assert channel_urls("conda-forge") == ("https://conda.anaconda.org/conda-forge",)
    assert channel_urls("defaults")[0] == "https://repo.anaconda.com/pkgs/main"
    assert channel_urls("https://h/c/") == channel_urls("https://h/c/linux-64") == ("https://h/c",)
    assert channel_urls("pytorch/label/x", alias="https://m/") == ("https://m/pytorch/label/x",)
    assert subdirs(Target.parse("linux/arm64")) == ("linux-aarch64", "noarch")
    with pytest.raises(ImageError, match="is not a channel"):
        channel_urls("../x")


@pytest.mark.parametrize(
    ("spec", "resolved", "channel"),
    [
        ("numpy >=1.26", "numpy >=1.26", None),
        ("numpy[version='>=1.26', build=py*]", "numpy[version='>=1.26', build=py*]", None),
        ("pytorch::torch=2", "https://m/pytorch::torch=2", "https://m/pytorch"),
        ("pytorch/label/x/linux-64::torch", "https://m/pytorch/label/x/linux-64::torch", "https://m/pytorch/label/x"),
        ("https://h/c::x", "https://h/c::x", "https://h/c"),
        ("x[build=0, channel='main']", "x[build=0, channel='https://m/main']", "https://m/main"),
        ("x[channel=main,build=0]", "x[channel=https://m/main,build=0]", "https://m/main"),
        ("x[channel=main/linux-64]", "x[channel=https://m/main/linux-64]", "https://m/main"),
        ("x[channel = 'https://h/c/noarch' ]", "x[channel = 'https://h/c/noarch' ]", "https://h/c"),
        ("https://h/c/noarch/x-1-0.conda#0a", "https://h/c/noarch/x-1-0.conda#0a", "https://h/c"),
    ],
)
def test_the_channel_of_a_specification(spec: str, resolved: str, channel: str | None) -> None:
    assert resolved_spec(spec, alias="https://m") == (resolved, channel)


@pytest.mark.parametrize(
    "text", ["https://user:0123456789@h/c", "https://h/t/xy-0123456789/c", "https://${USER}:${PASS}@h/c"]
)
def test_a_channel_with_a_credential(text: str) -> None:
    for step in (
        CondaInstall(specs=("x",), channels=(text,), prefix="/p"),
        CondaInstall(specs=(f"{text}::x",), channels=("c",), prefix="/p"),
        CondaInstall(specs=(f"x[channel='{text}']",), channels=("c",), prefix="/p"),
    ):
        with pytest.raises(CredentialError) as caught:
            refuse_credentials(step)
        assert "netrc" in (caught.value.hint or "")


@pytest.mark.parametrize("alias", ["https://user:0123456789@h", "https://h/t/xy-0123456789"])
def test_an_alias_of_channels_with_a_credential(alias: str) -> None:
    """The lockfile has URLs of packages, and so the alias."""
    draft = CondaLock(specs=("x",), channels=("main",), prefix="/p", layer=UNKNOWN_LAYER, variables=())
    with pytest.raises(CredentialError, match=r"^CONDA_CHANNEL_ALIAS has a credential written into it: "):
        resolved_channels(draft, {"CONDA_CHANNEL_ALIAS": alias})
    assert resolved_channels(draft, {"CONDA_CHANNEL_ALIAS": "https://h/"})[1] == ["https://h/main"]


@pytest.mark.parametrize(
    "field", [{"url": "file:///x.conda"}, {"url": "https://h/c/linux-64/x.zip"}, {"name": "../x"}, {"name": ""}]
)
def test_a_strangers_lockfile(field: dict[str, str]) -> None:
    package = CondaPackage(**{**{n: getattr(PACKAGE, n) for n in PACKAGE.__slots__}, **field})
    step = CondaLock(
        specs=("x",), channels=("c",), prefix="/opt/conda", layer=UNKNOWN_LAYER, variables=(), packages=(package,)
    )
    with pytest.raises(LockfileError, match=rf"packages\[0\].{next(iter(field))}"):
        check_names(TargetLock(target=Target(), base=BASE, interpreter=None, steps=(step,), packages=()))


# -- the builder


def test_the_builder_reads_an_environment_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "environment.yml").write_text(
        "channels:\n- conda-forge\n- nodefaults\nvariables:\n  A: $b\n"
        "dependencies:\n- python=3.12\n- pip\n- pip:\n  - tqdm>=4\n  - --index-url https://h/s\n  - -r a.txt\n"
    )
    namespace: dict[str, object] = {}
    code = (
        "import klock as kt\nimage = kt.Image().micromamba_install('z', spec_file='environment.yml', prefix='/opt/x/')"
    )
    exec(compile(code, "<typed>", "exec"), namespace)
    image = namespace["image"]
    assert isinstance(image, kt.Image)
    assert image.steps == (
        CondaInstall(specs=("python=3.12", "pip", "z"), channels=("conda-forge",), prefix="/opt/x"),
        SetEnvVars(variables=(("A", r"\$b"),)),
        PipInstall(requirements=("tqdm>=4", "--index-url https://h/s", "-r a.txt")),
    )


@pytest.mark.parametrize("above", ["", "envs"])
def test_files_for_pip_lie_beside_the_environment_file(tmp_path: Path, above: str) -> None:
    lines = ["-r requirements.txt", "--constraint=../c.txt", "-r /srv/r.txt", "--pre", "numpy", "-r 'a b.txt'"]
    lines += ["-ra.txt --pre", "-r https://h/r.txt", "-r 'a"]
    path = tmp_path / above / "environment.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"dependencies": ["python", {"pip": lines}]}))
    seen = ["-r envs/requirements.txt", "--constraint c.txt", "-r /srv/r.txt", "--pre", "numpy", "-r 'envs/a b.txt'"]
    seen += ["-r envs/a.txt --pre", "-r https://h/r.txt", "-r 'a"]
    assert list(read_spec_file(path, "conda_install", folder=tmp_path).pip) == (seen if above else lines)


def test_what_the_builder_refuses() -> None:
    with pytest.raises(ImageError, match="conda_install: no packages are named"):
        kt.Image().conda_install()
    with pytest.raises(ImageError, match=r"conda_install: prefix is 'opt/x' \(expected an absolute path\)"):
        kt.Image().conda_install("z", prefix="opt/x")
    with pytest.raises(ImageError, match=r"conda_install: prefix is '/opt/x y' \(expected names of letters, digits"):
        kt.Image().conda_install("z", prefix="/opt/x y")
    with pytest.raises(ImageError, match=r"micromamba_install: cannot read .*nowhere\.yml"):
        kt.Image().micromamba_install(spec_file="nowhere.yml")
    with pytest.raises(ImageError, match=r"add_python: version is '3' \(expected the numbers of a Python 3, as text\)"):
        kt.Image().add_python("3")
