"""Settings from pyproject.toml, and running an image file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import klock as kt
from klock.errors import ImageError, KlockError
from klock.image.loading import ImageReference, load
from klock.image.requirement_files import read_requirements
from klock.image.steps import PipInstall
from klock.project import Settings, find_image, find_root, load_image, load_settings, lockfile_path
from klock.targets import Target

IMAGE = "import klock as kt\nimage = kt.images.Python312()\n"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_py", ".py").replace("_toml", ".toml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- settings


def test_all_settings(folder: Path) -> None:
    write(
        folder,
        certs__ours_pem="",
        pyproject_toml="""
[project]
name = "x"
[tool.klock]
image = "envs/gpu.py:train"
targets = ["linux/amd64", "linux/amd64/cuda12.4"]
engine = "podman"
registry-mirrors = {"docker.io" = "http://127.0.0.1:5000", "localhost:5000" = "https://m/x"}
debian-mirror = "http://deb.debian.org/debian"
index-url = "https://pypi.org/simple"
ca-bundle = "certs/ours_pem"
cache = "oci://registry.example.com:5000/team/cache"
""",
    )
    assert load_settings(folder / "sub") == Settings(
        file=folder / "pyproject.toml",
        image="envs/gpu.py:train",
        targets=(Target(), Target(accelerator="cuda12.4")),
        engine="podman",
        registry_mirrors={"docker.io": "http://127.0.0.1:5000", "localhost:5000": "https://m/x"},
        cache="oci://registry.example.com:5000/team/cache",
        debian_mirror="http://deb.debian.org/debian",
        index_url="https://pypi.org/simple",
        ca_bundle=folder / "certs/ours_pem",
    )


def test_no_settings(folder: Path) -> None:
    assert load_settings(folder) == Settings()
    write(folder, pyproject_toml="[project]\nname = 'x'\n")
    assert load_settings(folder) == Settings(file=folder / "pyproject.toml")


def test_a_pyproject_above_the_repository_is_not_ours(folder: Path) -> None:
    (folder / "inner/.git").mkdir(parents=True)
    write(folder, pyproject_toml="[tool.klock]\nengine = 'docker'\n")
    assert load_settings(folder / "inner") == Settings()


WRONG_SETTINGS = {
    "an unknown key": ("tagets = []", "tool.klock.tagets is not a setting of klock"),
    "no image": ("image = ':x'", "tool.klock.image is ':x'"),
    "an image that is not text": ("image = 3", "tool.klock.image is 3 (expected a string)"),
    "an empty image": ("image = ''", "tool.klock.image is empty"),
    "one target": ("targets = 'linux/amd64'", "tool.klock.targets is 'linux/amd64' (expected a list of strings)"),
    "an unknown target": ("targets = ['linux/amd64', 'mac']", "tool.klock.targets[1] is 'mac': unknown target 'mac'"),
    "a number as a target": ("targets = [1]", "tool.klock.targets[0] is 1 (expected a string)"),
    "a target twice": (
        "targets = ['linux/amd64', 'linux/amd64/cpu']",
        "tool.klock.targets[1] has 'linux/amd64/cpu' twice",
    ),
    "an unknown engine": ("engine = 'vm'", "tool.klock.engine is 'vm'"),
    "a cache with a tag": (
        'cache = "oci://registry.example.com/team/cache:v1"',
        "tool.klock.cache is 'oci://registry.example.com/team/cache:v1' (expected the address of a repository)",
    ),
    "a cache that is not a repository": (
        'cache = "https://registry.example.com/team/cache"',
        "tool.klock.cache is 'https://registry.example.com/team/cache' (expected the address of a repository)",
    ),
    "mirrors as a list": (
        "registry-mirrors = []",
        "tool.klock.registry-mirrors is [] (expected a table of registries and URLs)",
    ),
    "a mirror of no host": (
        "registry-mirrors = {'a/b' = 'http://m'}",
        'tool.klock.registry-mirrors."a/b" is not a registry\'s host',
    ),
    "a mirror that is not a URL": (
        "registry-mirrors = {a = 'm'}",
        "tool.klock.registry-mirrors.\"a\" is 'm' (expected a URL)",
    ),
    "an index that is not a URL": ("index-url = 'pypi.org'", "tool.klock.index-url is 'pypi.org' (expected a URL)"),
    "64: credentials": ("index-url = 'https://u:p@h/'", "tool.klock.index-url has a user or password in it"),
    "no such bundle": ("ca-bundle = 'x.pem'", "tool.klock.ca-bundle is 'x.pem': there is no such file"),
}


@pytest.mark.parametrize("case", WRONG_SETTINGS)
def test_wrong_settings(case: str, folder: Path) -> None:
    line, message = WRONG_SETTINGS[case]
    write(folder, pyproject_toml=f"[tool.klock]\n{line}\n")
    with pytest.raises(KlockError) as caught:
        load_settings(folder)
    assert str(caught.value) == f"{folder}/pyproject.toml: {message}"


@pytest.mark.parametrize("text", ["[tool.klock", "[tool]\nklock = 3", "\ufffe"])
def test_a_pyproject_that_cannot_be_read(text: str, folder: Path) -> None:
    write(folder, pyproject_toml=text)
    with pytest.raises(KlockError, match=r"pyproject\.toml"):
        load_settings(folder)


# -- finding


@pytest.mark.parametrize("mark", ["pyproject.toml", "kimage.py", ".git"])
def test_the_root_is_the_nearest_folder_with_a_mark(mark: str, tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a" / mark).touch()
    assert find_root(tmp_path / "a/b/c") == tmp_path / "a"


REFERENCES = {
    "a file": ("kimage.py", "/p/kimage.py", "image", "/p/kimage.lock"),
    "a file and a name": ("envs/gpu.py:train", "/p/envs/gpu.py", "train", "/p/envs/gpu.train.lock"),
    "the usual name": ("gpu.py:image", "/p/gpu.py", "image", "/p/gpu.lock"),
    "an absolute path": ("/x/../y/k.py", "/y/k.py", "image", "/y/k.lock"),
    "a colon in a folder": ("a:b/k.py", "/p/a:b/k.py", "image", "/p/a:b/k.lock"),
}


@pytest.mark.parametrize("case", REFERENCES)
def test_references(case: str) -> None:
    text, file, name, lock = REFERENCES[case]
    reference = ImageReference.parse(text, folder=Path("/p"))
    assert reference == ImageReference(file=Path(file), name=name)
    from klock.image.loading import LoadedImage

    loaded = LoadedImage(image=kt.Image(), file=reference.file, name=reference.name, root=reference.file.parent)
    assert lockfile_path(loaded) == Path(lock)


@pytest.mark.parametrize("text", ["", ":x", "a.py:", "a.py:x y", "a.py:1"])
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(ImageError, match="not an image"):
        ImageReference.parse(text, folder=Path("/p"))


def test_without_a_name_it_is_the_projects_image(folder: Path) -> None:
    write(folder, kimage_py=IMAGE, sub__x="", envs__gpu_py=IMAGE.replace("image =", "train ="))
    loaded = load_image(folder=folder / "sub")
    assert (loaded.file, loaded.name, loaded.root, loaded.label) == (folder / "kimage.py", "image", folder, "kimage.py")
    write(folder, pyproject_toml="[tool.klock]\nimage = 'envs/gpu.py:train'\n")
    loaded = load_image(folder=folder / "sub")
    assert (loaded.file, loaded.name, loaded.root) == (folder / "envs/gpu.py", "train", folder / "envs")
    assert loaded.label == "gpu.py:train"
    assert load_image("kimage.py").file == folder / "kimage.py"


# -- running


def test_an_image_file_can_use_what_lies_beside_it(folder: Path) -> None:
    write(folder, kimage_py="from versions import NUMPY\n" + IMAGE.replace("()\n", "().pip_install([NUMPY])\n"))
    write(folder, versions_py="NUMPY = 'numpy>=1'\n")
    before = list(sys.path), set(sys.modules), sys.dont_write_bytecode
    assert "numpy>=1" in load_image("kimage.py").image.contents
    write(folder, versions_py="NUMPY = 'numpy>=20'\n")
    assert "numpy>=20" in load_image("kimage.py").image.contents, "it runs afresh"
    assert (list(sys.path), sys.dont_write_bytecode) == (before[0], before[2])
    assert {"versions", "kimage"}.isdisjoint(set(sys.modules) - before[1])
    assert not list(folder.rglob("*.pyc")), "nothing is written"


def test_a_module_of_the_same_name_comes_back(folder: Path) -> None:
    import json

    write(folder, json_py="raise SystemExit", kimage_py="import json\n" + IMAGE)
    assert load_image("kimage.py").image.name == "python312"
    write(folder, kimage_py=IMAGE, textwrap_py="")
    load_image("kimage.py")
    assert sys.modules["json"] is json


def test_an_image_file_may_define_dataclasses_and_read_its_place(folder: Path) -> None:
    text = "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 1\n" + IMAGE
    write(folder, kimage_py=text + "assert __file__.endswith('kimage.py') and __name__ == 'kimage'\n")
    load_image("kimage.py")


def test_what_an_image_file_prints_is_no_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, kimage_py="print('hello')\n" + IMAGE)
    load_image("kimage.py")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")


MARKS = "<<<<<<< HEAD\na\n=======\nb\n>>>>>>> other\n"
CONFLICTS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "pyproject.toml": ("[tool.klock]\n", load_settings),
    "Dockerfile": ("FROM a\n", lambda _: load_image("Dockerfile")),
    "requirements.txt": (
        "six\n",
        lambda folder: read_requirements(PipInstall(requirements=("-r requirements.txt",)), folder, {}),
    ),
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_a_conflict_of_git_is_called_one_wherever_it_is(name: str, folder: Path) -> None:
    start, read = CONFLICTS[name]
    (folder / name).write_text(start + MARKS)
    with pytest.raises(KlockError) as caught:
        read(folder)
    assert caught.value.message == f"{name}:2: git left a merge conflict here"
    assert f"klock lock && git add {name} kimage.lock; " in (caught.value.hint or "")


def test_an_unknown_setting_leads_to_the_one_that_was_meant(folder: Path) -> None:
    hints = {
        "tagets = []": "did you mean targets?",
        "[tool.klock.policy]\nlicence = []": "did you mean licences",
        "xyzzy = 1": "the settings are image, targets, engine",
    }
    for line, hint in hints.items():
        write(folder, pyproject_toml=f"[tool.klock]\n{line}\n")
        with pytest.raises(KlockError) as caught:
            load_settings(folder)
        assert (caught.value.hint or "").startswith(hint)


def test_the_image_of_this_folder_where_the_project_has_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sub").mkdir()
    (folder / "sub/Dockerfile").write_text("FROM x\n")
    monkeypatch.chdir(folder / "sub")
    with pytest.raises(ImageError, match=r"^there is no image file \.\./kimage\.py$") as caught:
        load(ImageReference(file=folder / "kimage.py"))
    assert caught.value.hint == "this folder has Dockerfile: name it, after `klock run` as --image Dockerfile"


def test_a_lockfile_is_no_image(folder: Path) -> None:
    (folder / "kimage.lock").write_text('lock-version = "1.0"\n')
    with pytest.raises(ImageError) as caught:
        load_image("kimage.lock", folder=folder)
    assert caught.value.message.endswith("kimage.lock is a lockfile, not an image")
    assert caught.value.hint == "name the image that it is of, such as kimage.py"


def test_an_image_of_the_settings_that_is_not_there_leads_to_the_settings(folder: Path) -> None:
    write(folder, pyproject_toml="[tool.klock]\nimage = 'envs/gpu.py:train'\n")
    with pytest.raises(ImageError) as caught:
        find_image(folder=folder)
    assert caught.value.message == (
        f"{folder}/pyproject.toml: tool.klock.image is 'envs/gpu.py:train', and there is no such file"
    )


WRONG_FILES: dict[str, tuple[dict[str, str], str, str | None]] = {
    "no file": (
        {},
        "there is no image file kimage.py",
        "write one with `klock init`, or name another: FILE or FILE:NAME",
    ),
    "a syntax error": (
        {"kimage_py": "a = 1\nimage = (\n"},
        "kimage.py:2: SyntaxError: '(' was never closed\n    image = (",
        None,
    ),
    "conflict markers of git": (
        {"kimage_py": "a = 1\n<<<<<<< HEAD\nb = 1\n=======\nb = 2\n>>>>>>> other\n"},
        "kimage.py:2: git left a merge conflict here",
        "choose between the two sides, then: git checkout --ours kimage.lock && klock lock && git add kimage.py "
        "kimage.lock; `klock merge-driver --install` has git merge lockfiles by klock",
    ),
    "NUL bytes": (
        {"kimage_py": "a\0"},
        "kimage.py is not Python: it has a NUL byte",
        "save it as text in UTF-8",
    ),
    "it raises": (
        {"kimage_py": "a = 1\n\nb = a / 0\n"},
        "kimage.py:3: ZeroDivisionError: division by zero\n    b = a / 0",
        None,
    ),
    "it raises in a file beside it": (
        {"kimage_py": "import versions\n", "versions_py": "\nx = {}['a']\n"},
        "versions.py:2: KeyError: 'a'\n    x = {}['a']",
        None,
    ),
    "an environment variable is missing": (
        {"kimage_py": "import os\nx = os.environ['NO_SUCH_NAME']\n"},
        "kimage.py:2: KeyError: 'NO_SUCH_NAME'\n    x = os.environ['NO_SUCH_NAME']",
        "set the environment variable NO_SUCH_NAME",
    ),
    "it imports what is not there": (
        {"kimage_py": "import no_such_module\n"},
        "kimage.py:1: ModuleNotFoundError: No module named 'no_such_module'\n    import no_such_module",
        "the file runs with klock's own Python, outside the environment: import only what is installed there",
    ),
    "klock is not imported": (
        {"kimage_py": "image = Image()\n"},
        "kimage.py:1: NameError: name 'Image' is not defined\n    image = Image()",
        "begin the file with `import klock as kt`, and write kt.Image or kt.images",
    ),
    "a method with a slip": (
        {"kimage_py": "import klock as kt\nimage = kt.Image().pip_instal(['a'])\n"},
        "kimage.py:2: AttributeError: 'Image' object has no attribute 'pip_instal'\n"
        "    image = kt.Image().pip_instal(['a'])",
        "did you mean pip_install or apt_install or conda_install?",
    ),
    "a base with a slip": (
        {"kimage_py": "import klock as kt\nimage = kt.images.Pyhton312()\n"},
        "kimage.py:2: AttributeError: module 'klock.images' has no attribute 'Pyhton312'\n"
        "    image = kt.images.Pyhton312()",
        "did you mean Python312 or Python311 or Python310?",
    ),
    "another tool's method": (
        {"kimage_py": "import klock as kt\nimage = kt.Image().env({})\n"},
        "kimage.py:2: AttributeError: 'Image' object has no attribute 'env'\n    image = kt.Image().env({})",
        "did you mean set_env_vars?",
    ),
    "nobody's method": (
        {"kimage_py": "import klock as kt\nimage = kt.Image().expose(80)\n"},
        "kimage.py:2: AttributeError: 'Image' object has no attribute 'expose'\n    image = kt.Image().expose(80)",
        "docs/image.md lists what an image has",
    ),
    "a method that nobody called": (
        {"kimage_py": "import klock as kt\nother = kt.Image()\nimage = kt.Image().pip_install\n"},
        "'image' in kimage.py is of type method (expected klock.Image)",
        "call it: pip_install(...)",
    ),
    "a class that nobody called": (
        {"kimage_py": "import klock as kt\nimage = kt.Image.pip_install('x')\n"},
        "kimage.py:2: TypeError: Image.pip_install() missing 1 required positional argument: 'reqs'\n"
        "    image = kt.Image.pip_install('x')",
        "call it on an image, not on the class: Image().pip_install(...)",
    ),
    "an argument with a slip": (
        {"kimage_py": "import klock as kt\nimage = kt.Image().conda_install(['a'], channel='b')\n"},
        "kimage.py:2: TypeError: Image.conda_install() got an unexpected keyword argument 'channel'\n"
        "    image = kt.Image().conda_install(['a'], channel='b')",
        "did you mean channels?",
    ),
    "an argument of another tool": (
        {"kimage_py": "import klock as kt\nimage = kt.Image().run_bash('a', gpu='b')\n"},
        "kimage.py:2: TypeError: Image.run_bash() got an unexpected keyword argument 'gpu'\n"
        "    image = kt.Image().run_bash('a', gpu='b')",
        "run_bash takes command, force, leave_out, keep_layer, private_urls, wait_for",
    ),
    "it ends the program": (
        {"kimage_py": "import sys\nsys.exit(3)\n"},
        "kimage.py:2: SystemExit: the file ends the program (status 3)\n    sys.exit(3)",
        None,
    ),
    "a mistake in the image": (
        {"kimage_py": "import klock as kt\nimage = (\n    kt.Image()\n    .run_bash('a')\n    .run_bash('')\n)\n"},
        "kimage.py:5: run_bash: command is empty",
        None,
    ),
    "64: a credential in the error": (
        {"kimage_py": "raise ValueError('https://u:hunter2@h')\n"},
        "kimage.py:1: ValueError: https://***@h\n    raise ValueError('https://***@h')",
        None,
    ),
    "no image": (
        {"kimage_py": "x = 1\n"},
        "kimage.py has no object named 'image'",
        "define one: image = klock.images.Python312().pip_install([...])",
    ),
    "an image of another name": (
        {"kimage_py": IMAGE.replace("image =", "gpu = cpu =")},
        "kimage.py has no object named 'image'",
        "it has images named gpu, cpu: write kimage.py:gpu",
    ),
    "another type": (
        {"kimage_py": "import klock as kt\nmine = kt.Image()\ndef image(): ...\n"},
        "'image' in kimage.py is of type function (expected klock.Image)",
        "it has an image named mine: write kimage.py:mine",
    ),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_a_wrong_image_file(case: str, folder: Path) -> None:
    files, message, hint = WRONG_FILES[case]
    write(folder, **files)
    before = list(sys.path), set(sys.modules)
    with pytest.raises(ImageError) as caught:
        load_image("kimage.py")
    assert (caught.value.message, caught.value.hint) == (message, hint)
    assert list(sys.path) == before[0]
    assert {"kimage", "versions"}.isdisjoint(set(sys.modules) - before[1])


def test_keyboard_interrupts_pass(folder: Path) -> None:
    write(folder, kimage_py="raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_image("kimage.py")


def test_what_run_mounts_is_from_the_projects_folder(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.klock]\nmounts = [".:/work", "/data:/data:ro"]\n')
    assert load_settings(tmp_path).mounts == (f"{tmp_path}:/work", "/data:/data:ro")
    for written in ('["x"]', '["a:b"]', '[":/x"]', "3", "[1]"):
        (tmp_path / "pyproject.toml").write_text(f"[tool.klock]\nmounts = {written}\n")
        with pytest.raises(KlockError, match="mounts"):
            load_settings(tmp_path)


def test_a_mount_that_is_asked_for_takes_the_place_of_a_usual_one() -> None:
    from klock.api import _besides

    usual = ["/p:/work", "/data:/data:ro"]
    assert _besides(["/q:/work/"], usual) == ["/data:/data:ro"]
    assert _besides([], usual) == usual
