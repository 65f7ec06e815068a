"""Where files go, case by case, and what an engine is asked to place."""

from __future__ import annotations

import hashlib
import posixpath
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.errors import ImageError
from klock.files.destination import file_destination, folder_destination, source_path
from klock.files.local import import_paths, placed_files
from klock.files.placed import PlacedFile
from klock.files.scan import tree_digest
from klock.image.steps import CopyFiles, SyncPackage
from klock.lockfile.model import FileEntry
from klock.steps.files.reading import LocalFiles, read_local_files
from klock.store import Store

WHERE = "step 2 (kimage.py:7)"


def goes_to(
    source: str, dest: str | None, *, contents: bool = False, is_folder: bool, working_dir: str = "/work"
) -> str:
    if is_folder:
        return folder_destination(source, dest, contents=contents, working_dir=working_dir, where=WHERE)
    return file_destination(source, dest, working_dir=working_dir, where=WHERE)


FILES = [
    ("case 44: exactly there", "./config.yaml", "/app/config.yaml", "/app/config.yaml"),
    ("case 44: under another name", "./config.yaml", "/etc/app.yaml", "/etc/app.yaml"),
    ("case 44: inside a dest that ends in a slash", "./config.yaml", "/app/", "/app/config.yaml"),
    ("case 46: no dest", "./model.pt", None, "/work/model.pt"),
    ("case 46: no dest, from elsewhere", "~/data/model.pt", None, "/work/model.pt"),
    ("case 46: an empty dest is none", "model.pt", "", "/work/model.pt"),
    ("case 47: ~ is the working directory", "model.pt", "~/m/x.pt", "/work/m/x.pt"),
    ("case 47: ~/ alone", "model.pt", "~/", "/work/model.pt"),
    ("case 47: ~ alone", "model.pt", "~", "/work/model.pt"),
    ("case 47: more slashes are one", "model.pt", "~//x", "/work/x"),
    ("relative to the working directory", "model.pt", "models/x.pt", "/work/models/x.pt"),
    ("relative, a folder", "model.pt", "models/", "/work/models/model.pt"),
    ("the root", "model.pt", "/", "/model.pt"),
    (". is a folder", "model.pt", ".", "/work/model.pt"),
    (".. stays inside the root", "model.pt", "../x.pt", "/x.pt"),
    (".. at the end is a folder", "model.pt", "/a/b/..", "/a/model.pt"),
    ("case 54: spaces and other scripts", "a b/ü ö.txt", "/日本/", "/日本/ü ö.txt"),
    ("a name with a tilde", "model.pt", "~x", "/work/~x"),
]


@pytest.mark.parametrize(("source", "dest", "expected"), [c[1:] for c in FILES], ids=[c[0] for c in FILES])
def test_a_file(source: str, dest: str | None, expected: str) -> None:
    assert goes_to(source, dest, is_folder=False) == expected


FOLDERS = [
    ("case 45: the folder goes inside", "./src", "/app", False, "/app/src"),
    ("case 45: with or without a slash", "./src", "/app/", False, "/app/src"),
    ("case 45: its contents", "./src", "/app", True, "/app"),
    ("case 46: no dest", "./src", None, False, "/work/src"),
    ("case 46: ./src/ is ./src", "./src/", None, False, "/work/src"),
    ("case 46: ./src/ is ./src with a dest, too", "./src/", "/app", False, "/app/src"),
    ("case 47: ~", "./configs", "~/etc", False, "/work/etc/configs"),
    ("case 48: contents without dest", "./src", None, True, "/work"),
    ("relative", "./src", "lib", False, "/work/lib/src"),
    ("a folder without a name of its own: its contents", ".", "/app", False, "/app"),
    ("rsync's src/. is its contents", "./src/.", "/app", False, "/app"),
    ("..", "..", "/app", False, "/app"),
    ("the home folder", "~", "/app", False, "/app"),
    ("the reference: ./models to /models", "./models", "/models", False, "/models/models"),
    ("the reference: ./src to /app/src, contents", "./src", "/app/src", True, "/app/src"),
]


@pytest.mark.parametrize(
    ("source", "dest", "contents", "expected"), [c[1:] for c in FOLDERS], ids=[c[0] for c in FOLDERS]
)
def test_a_folder(source: str, dest: str | None, contents: bool, expected: str) -> None:
    assert goes_to(source, dest, is_folder=True, contents=contents) == expected


@pytest.mark.parametrize("working_dir", ["", "/"])
def test_the_root_as_working_directory(working_dir: str) -> None:
    assert goes_to("./src", None, is_folder=True, working_dir=working_dir) == "/src"
    assert goes_to("./src", None, is_folder=True, contents=True, working_dir=working_dir) == "/"


@pytest.mark.parametrize("dest", ["../../x", "/..", "/a/../../x", "~/../..", "/../etc"])
def test_a_destination_out_of_the_root_is_an_error(dest: str) -> None:
    with pytest.raises(ImageError) as caught:
        goes_to("model.pt", dest, is_folder=False)
    assert caught.value.message.startswith(f"{WHERE}: the destination ")
    assert caught.value.message.endswith(" leads out of the environment's root")


def test_a_nul_character_is_an_error() -> None:
    with pytest.raises(ImageError, match="has a NUL character"):
        goes_to("model.pt", "/a\0b", is_folder=False)


PATH = st.lists(st.sampled_from(["a", "b c", "..", ".", "", "~", "ü"]), max_size=6).map("/".join)


@given(source=PATH, dest=st.none() | PATH, working_dir=PATH, contents=st.booleans(), is_folder=st.booleans())
def test_a_destination_is_absolute_and_in_normal_form(
    source: str, dest: str | None, working_dir: str, contents: bool, is_folder: bool
) -> None:
    try:
        place = goes_to(source, dest, contents=contents, is_folder=is_folder, working_dir=working_dir)
    except ImageError:
        return
    assert place.startswith("/") and not place.startswith("//")
    assert place == posixpath.normpath(place)
    assert ".." not in place.split("/")


def test_case_56_sources_are_relative_to_the_images_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    sources = {source: str(source_path(source, root=Path("/project"))) for source in ("a", "/a", "~/a", "./a/")}
    assert sources == {"a": "/project/a", "/a": "/a", "~/a": "/home/ada/a", "./a/": "/project/a"}


def test_dots_after_a_symlink_lead_where_the_kernel_goes(tmp_path: Path) -> None:
    (tmp_path / "elsewhere/folder").mkdir(parents=True)
    (tmp_path / "elsewhere/x").write_bytes(b"elsewhere")
    (tmp_path / "x").write_bytes(b"here")
    (tmp_path / "link").symlink_to("elsewhere/folder")
    for source, expected in (("link/../x", b"elsewhere"), ("elsewhere/../x", b"here"), ("nosuch/../x", b"here")):
        path = source_path(source, root=tmp_path)
        assert path.read_bytes() == expected and ".." not in path.parts
    files = read_local_files(CopyFiles(source="link/..", root=str(tmp_path)), working_dir="/", where=WHERE)
    assert [entry.path for entry in files.entries] == ["folder", "x"]
    assert [file.source for file in placed_files(files.entries, files.source) if file.source] == [
        tmp_path / "elsewhere/x"
    ]


# -- one step's files


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def test_a_folders_files_are_placed_below_their_destination(tmp_path: Path) -> None:
    (tmp_path / "src/sub").mkdir(parents=True)
    (tmp_path / "src/sub/a b").write_bytes(b"x")
    (tmp_path / "src/link").symlink_to("sub")
    step = CopyFiles(source="./src/", root=str(tmp_path), dest="/app")
    files = read_local_files(step, working_dir="/work", where=WHERE)
    assert files.destination == "/app/src"
    assert placed_files(files.entries, files.source) == (
        PlacedFile(path="link", mode=0o777, target="sub"),
        PlacedFile(path="sub", mode=0o755),
        PlacedFile(path="sub/a b", mode=0o644, source=tmp_path / "src/sub/a b", digest=sha256(b"x")),
    )
    assert files.tree == tree_digest(files.entries)


def test_a_file_is_placed_at_its_destination(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"x")
    step = CopyFiles(source="config.yaml", root=str(tmp_path), dest="/app/", contents=True)
    files = read_local_files(step, working_dir="/work", where=WHERE)
    assert files.destination == "/app/config.yaml"
    assert placed_files(files.entries, files.source) == (
        PlacedFile(path="", mode=0o644, source=tmp_path / "config.yaml", digest=sha256(b"x")),
    )


def test_case_53_a_deleted_source_file_changes_the_tree(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a").touch()
    (tmp_path / "src/b").touch()
    step = CopyFiles(source="src", root=str(tmp_path))
    store = Store(tmp_path / "store")
    before = read_local_files(step, working_dir="/", where=WHERE, store=store)
    (tmp_path / "src/b").unlink()
    after = read_local_files(step, working_dir="/", where=WHERE, store=store)
    assert [entry.path for entry in before.entries] == ["a", "b"]
    assert [entry.path for entry in after.entries] == ["a"]
    assert before.tree != after.tree


def test_the_folder_of_a_checkout_does_not_show(tmp_path: Path) -> None:
    results = []
    for checkout in ("one", "two"):
        (tmp_path / checkout).mkdir()
        (tmp_path / checkout / "a").write_bytes(b"x")
        step = CopyFiles(source=".", root=str(tmp_path / checkout), dest="/app", filter_options="--exclude=/one")
        files = read_local_files(step, working_dir="/", where=WHERE)
        results.append((files.destination, files.entries))
    assert results[0] == results[1]


# -- packages


def package(tmp_path: Path, *names: str) -> LocalFiles:
    folder = tmp_path / "libs/my_lib"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    step = SyncPackage(package="./libs/my_lib", path=str(folder))
    return read_local_files(step, working_dir="/work", where=WHERE)


PACKAGES = [
    ("the folder is the import package: its parent", ("__init__.py", "core.py"), "/work"),
    ("a project with the package in it: the folder", ("pyproject.toml", "my_lib/__init__.py"), "/work/my_lib"),
    ("a project with the src layout: src", ("pyproject.toml", "src/my_lib/__init__.py"), "/work/my_lib/src"),
    ("the src layout, a single module", ("setup.py", "src/my_lib.py"), "/work/my_lib/src"),
    ("a package that is called src: the folder", ("setup.py", "src/__init__.py"), "/work/my_lib"),
    ("src without Python: the folder", ("setup.cfg", "src/main.c", "my_lib/__init__.py"), "/work/my_lib"),
    ("a stray __init__.py in a project's root: the folder", ("pyproject.toml", "__init__.py", "m.py"), "/work/my_lib"),
    ("neither package nor project: the folder", ("tool.py",), "/work/my_lib"),
]


@pytest.mark.parametrize(("names", "expected"), [c[1:] for c in PACKAGES], ids=[c[0] for c in PACKAGES])
def test_case_59_what_goes_on_the_import_path(tmp_path: Path, names: tuple[str, ...], expected: str) -> None:
    files = package(tmp_path, *names)
    assert files.destination == "/work/my_lib"
    assert files.import_paths == (expected,)


def test_import_paths_in_the_root() -> None:
    entry = FileEntry(path="__init__.py", mode=0o644, digest=sha256(b""))
    assert import_paths((entry,), "/my_lib") == ("/",)


def test_a_package_leaves_out_what_is_left_out_by_default(tmp_path: Path) -> None:
    files = package(tmp_path, "__init__.py", "__pycache__/x.pyc", ".venv/bin/python", "a.py")
    assert [entry.path for entry in files.entries] == ["__init__.py", "a.py"]
