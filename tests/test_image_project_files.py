"""What other tools wrote down of a project is taken over as it is: versions, hashes, sources, groups and extras."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import Marker

import klock as kt
from klock.errors import RequirementError
from klock.image.markers import both, negated
from klock.image.requirement_files import read_requirements
from klock.image.requirements import PackageRequirement, ParsedRequirement
from klock.image.steps import PipInstall
from klock.lockfile.model import Interpreter
from klock.packages.interpreter import TargetPython
from klock.packages.request import PipRequest, ScopedRequirement
from klock.packages.roots import roots_in

DIGITS = {name: digit * 64 for name, digit in (("a", "a"), ("b", "b"), ("c", "c"), ("d", "d"))}

PYPROJECT = """\
[project]
name = "My.App"
version = "1"
requires-python = ">=3.9"
dependencies = ["a>=1", "b; python_version < '3.12'"]

[project.optional-dependencies]
fast = ["c[x]>=2"]
all = ["my-app[fast]", "g"]

[dependency-groups]
dev = ["d"]
docs = [{include-group = "dev"}, "e"]
all = ["My_App[fast]", "d"]

[[tool.uv.index]]
name = "corp"
url = "https://corp.example/simple"
explicit = true

[tool.uv.sources]
a = {index = "corp"}
g = {git = "https://git.example/g", tag = "v1", subdirectory = "py"}
"""


def wheel(name: str, version: str) -> str:
    file = f"{name}-{version}-py3-none-any.whl"
    return f'wheels = [{{url = "https://h/{file}", size = 1, hash = "sha256:{DIGITS[name]}"}}]\n'


UV_LOCK = f"""\
version = 1
revision = 3
requires-python = ">=3.9"

[[package]]
name = "a"
version = "1.5"
source = {{registry = "https://corp.example/simple"}}
dependencies = [{{name = "b"}}]
{wheel("a", "1.5")}
[[package]]
name = "b"
version = "0.1"
source = {{registry = "https://pypi.org/simple"}}
{wheel("b", "0.1")}
[[package]]
name = "c"
version = "2.0"
source = {{registry = "https://pypi.org/simple"}}
{wheel("c", "2.0")}
[[package]]
name = "d"
version = "3.0"
source = {{registry = "https://pypi.org/simple"}}
{wheel("d", "3.0")}
[[package]]
name = "my-app"
version = "1"
source = {{virtual = "."}}
dependencies = [{{name = "a"}}, {{name = "b", marker = "python_full_version < '3.12'"}}]

[package.optional-dependencies]
fast = [{{name = "c"}}]

[package.dev-dependencies]
dev = [{{name = "d"}}]
"""

PYLOCK = f"""\
lock-version = "1.0"
created-by = "somebody"

[[packages]]
name = "a"
version = "1.5"
marker = "sys_platform == 'linux'"
index = "https://corp.example/simple"
wheels = [{{url = "https://h/a-1.5-py3-none-any.whl", hashes = {{sha256 = "{DIGITS["a"]}"}}}}]

[[packages]]
name = "b"
archive = {{url = "https://h/b-1.zip", hashes = {{sha256 = "{DIGITS["b"]}"}}}}

[[packages]]
name = "c"
vcs = {{type = "git", url = "https://git.example/c", commit-id = "{"0" * 40}", subdirectory = "py"}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "uv.lock").write_text(UV_LOCK)
    (tmp_path / "pylock.toml").write_text(PYLOCK)
    return tmp_path


def read(folder: Path, *entries: str) -> tuple[ParsedRequirement, ...]:
    return read_requirements(PipInstall(requirements=entries), folder, {}).requirements


def told(requirement: ParsedRequirement) -> str:
    index = requirement.options.only_from or requirement.options.index_url
    marker = "" if isinstance(requirement, PackageRequirement) or not requirement.marker else f" ; {requirement.marker}"
    return str(requirement) + marker + (f" from {index}" if index else "")


CASES = {
    "a project's dependencies, from its sources": (
        "-r pyproject.toml",
        ["a>=1 from https://corp.example/simple", 'b; python_version < "3.12"'],
    ),
    "an extra, and a group that includes another": (
        "-r pyproject.toml --extra fast --group docs",
        ["a>=1 from https://corp.example/simple", 'b; python_version < "3.12"', "c[x]>=2", "d", "e"],
    ),
    "an extra that means another": (
        "-r pyproject.toml --extra ALL",
        [
            *("a>=1 from https://corp.example/simple", 'b; python_version < "3.12"'),
            *("g @ git+https://git.example/g@v1#subdirectory=py", "c[x]>=2"),
        ],
    ),
    "a group alone, as pip has it": ("--group docs", ["d", "e"]),
    "a group that has the project itself, which is not in an index": (
        "--group all",
        ["a>=1 from https://corp.example/simple", 'b; python_version < "3.12"', "c[x]>=2", "d"],
    ),
    "a group of a file": ("--group ./pyproject.toml:dev", ["d"]),
    "a lock of uv, with the groups of uv": (
        "-r uv.lock",
        ["a==1.5 from https://corp.example/simple", "b==0.1", "d==3.0"],
    ),
    "without all of them": ("-r uv.lock --no-default-groups", ["a==1.5 from https://corp.example/simple", "b==0.1"]),
    "without them, with an extra": (
        "-r uv.lock --no-dev --extra fast",
        ["a==1.5 from https://corp.example/simple", "b==0.1", "c==2.0"],
    ),
    "a pylock.toml": (
        "-r pylock.toml",
        [
            'a==1.5; sys_platform == "linux" from https://corp.example/simple',
            "b @ https://h/b-1.zip",
            f"c @ git+https://git.example/c@{'0' * 40}#subdirectory=py",
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_file_asks_for(folder: Path, case: str) -> None:
    entry, wanted = CASES[case]
    assert list(map(told, read(folder, entry))) == wanted


@pytest.mark.parametrize("entry", ["-r uv.lock", "-r pylock.toml"])
def test_hashes_of_a_lock_are_kept(folder: Path, entry: str) -> None:
    (folder / "pylock.toml").write_text(PYLOCK.replace(DIGITS["a"], DIGITS["a"].upper()))
    first = read(folder, entry)[0]
    assert isinstance(first, PackageRequirement)
    assert (first.hashes, first.is_locked) == ((f"sha256:{DIGITS['a']}",), True)


FILES = {
    "of an index": ("", "", 0),
    "of no index": ('index = "https://corp.example/simple"\n', "", 1),
    "of PyPI": ('index = "https://corp.example/simple"\n', ("https://h/a", "https://files.pythonhosted.org/a"), 0),
    "with another hash": (f'sha256 = "{DIGITS["a"]}"', f'sha512 = "{DIGITS["a"] * 2}"', 1),
}


@pytest.mark.parametrize("case", FILES)
def test_files_of_a_lock_that_are_meant_themselves(tmp_path: Path, case: str) -> None:
    """Where no index can be asked for them by their SHA-256."""
    taken_away, instead, number = FILES[case]
    text = PYLOCK.replace(taken_away, instead if isinstance(instead, str) else "", 1)
    (tmp_path / "pylock.toml").write_text(text.replace(*instead) if isinstance(instead, tuple) else text)
    [first] = read(tmp_path, "-r pylock.toml")[:1]
    assert isinstance(first, PackageRequirement) and len(first.files) == number


def test_a_page_of_links_is_no_index(tmp_path: Path) -> None:
    text = PYLOCK.replace("https://corp.example/simple", "https://corp.example/torch-2.5.html")
    (tmp_path / "pylock.toml").write_text(text)
    options = read(tmp_path, "-r pylock.toml")[0].options
    assert (options.index_url, list(map(str, options.find_links))) == (None, ["https://corp.example/torch-2.5.html"])


ENVIRONMENTS = {
    "none is named": ("", "", "python_version >= '3'", False),
    "its Pythons": ('requires-python = ">=3.13"', "", "", True),
    "its Pythons, this one among them": ('requires-python = ">=3.9,<3.12"', "", "", False),
    "a release of one Python": ('requires-python = "==3.11.*"', "", "", False),
    "its systems": ("environments = [\"sys_platform == 'win32'\", \"sys_platform == 'darwin'\"]", "", "", True),
    "its systems, this one among them": (
        "environments = [\"sys_platform == 'win32'\", \"platform_machine == 'x86_64'\"]",
        "",
        "",
        False,
    ),
    "a package's own": ("", 'requires-python = ">=3.13"', "", True),
    "a package that is not for here": ("", 'requires-python = ">=3.13"', "sys_platform == 'win32'", False),
    "a package's own, with a marker": ("", 'requires-python = ">=3.13"', "sys_platform == 'linux'", True),
    "its systems, and no package is for here": (
        "environments = [\"sys_platform == 'win32'\"]",
        "",
        "sys_platform == 'win32'",
        True,
    ),
}


@pytest.mark.parametrize("case", ENVIRONMENTS)
def test_a_lock_is_for_the_environments_that_it_names(tmp_path: Path, case: str) -> None:
    of_lock, of_package, marker, refused = ENVIRONMENTS[case]
    text = f'lock-version = "1.0"\ncreated-by = "x"\n{of_lock}\n[[packages]]\nname = "a"\nversion = "1"\n{of_package}\n'
    text += f'marker = "{marker}"\n' if marker else ""
    text += f'wheels = [{{url = "https://h/a-1-py3-none-any.whl", hashes = {{sha256 = "{DIGITS["a"]}"}}}}]\n'
    (tmp_path / "pylock.toml").write_text(text)
    markers = {
        "python_full_version": "3.11.2",
        "python_version": "3.11",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
    }
    interpreter = Interpreter(path="/p", version="3.11.2", implementation="cpython", libc="glibc 2.36", sha256="")
    python = TargetPython(interpreter=interpreter, markers=markers, tags=("py3-none-any",), installed=())
    request = PipRequest(requirements=tuple(map(ScopedRequirement.of, read(tmp_path, "-r pylock.toml"))))
    if not refused:
        assert len(roots_in(python, [request])) == (0 if "win32" in marker else 1)
        return
    with pytest.raises(RequirementError) as caught:
        roots_in(python, [request])
    assert str(caught.value).startswith("pylock.toml: packages[0]: it is for ")
    assert str(caught.value).endswith(", and the environment has Python 3.11.2 on linux x86_64")


CHOICES = {
    "the default groups": ("", ["a", "b"]),
    "an extra": ("--extra Fast", ["a", "b", "c"]),
    "a group": ("--group test", ["a", "b", "d"]),
    "all": ("--all-extras --all-groups", ["a", "b", "c", "d"]),
    "no dev": ("--no-dev", ["a"]),
    "no default groups": ("--no-default-groups --group test", ["d"]),
}


def write_choices(folder: Path) -> None:
    """As pdm writes them."""
    markers = {
        "a": "'default' in dependency_groups",
        "b": "'dev' in dependency_groups and sys_platform == 'linux'",
        "c": "'fast' in extras",
        "d": "'test' in dependency_groups or 'other' in extras",
    }
    text = 'lock-version = "1.0"\ncreated-by = "pdm"\nextras = ["fast", "other"]\n'
    text += 'dependency-groups = ["default", "dev", "test"]\ndefault-groups = ["default", "dev"]\n'
    for name, marker in markers.items():
        url = f"https://h/{name}-1-py3-none-any.whl"
        text += f'[[packages]]\nname = "{name}"\nversion = "1"\nmarker = "{marker}"\n'
        text += f'wheels = [{{url = "{url}", hashes = {{sha256 = "{DIGITS[name]}"}}}}]\n'
    (folder / "pylock.toml").write_text(text)


@pytest.mark.parametrize("case", CHOICES)
def test_a_lock_of_several_choices(tmp_path: Path, case: str) -> None:
    options, wanted = CHOICES[case]
    write_choices(tmp_path)
    asked = read(tmp_path, f"-r pylock.toml {options}")
    environment = {"sys_platform": "linux", "python_version": "3.11"}
    assert [r.name for r in asked if r.marker is None or r.marker.evaluate(environment)] == wanted


def test_a_choice_that_a_lock_has_not(tmp_path: Path) -> None:
    write_choices(tmp_path)
    with pytest.raises(RequirementError) as caught:
        read(tmp_path, "-r pylock.toml --group nope")
    assert str(caught.value) == "pylock.toml: there is no group 'nope', only default, dev, test"


def test_files_are_read_by_a_draft_and_not_understood(folder: Path) -> None:
    step = PipInstall(requirements=("-r uv.lock",))
    inputs = read_requirements(step, folder, {}, locks=False)
    assert ([file.path for file in inputs.files], inputs.requirements) == (["pyproject.toml", "uv.lock"], ())


def test_the_builders_words_are_entries() -> None:
    image = kt.images.from_debian("bookworm").uv_sync("app", groups=["gpu"], no_dev=True, package="lib")
    image.pip_install_from_pyproject(extras="fast", groups=["dev", "test"])
    assert [step.requirements for step in image.steps if isinstance(step, PipInstall)] == [
        ("-r app/uv.lock --group gpu --no-dev --package lib",),
        ("-r pyproject.toml --extra fast --group dev --group test",),
    ]


INDEXES = """
[[tool.uv.index]]
name = "cpu"
url = "https://cpu.example"
explicit = true

[[tool.uv.index]]
name = "cuda"
url = "https://cuda.example"
explicit = true

[tool.uv.sources]
"""
BY_EXTRA = 'a = [{index = "cpu", extra = "cpu"}, {index = "cuda", extra = "cuda"}]'
SOURCES = {
    "a source for some environments: others ask the indexes": (
        'a = {index = "cpu", marker = "sys_platform == \'win32\'"}',
        "",
        ['a; sys_platform == "win32" from https://cpu.example', 'a; sys_platform != "win32"', 'b; os_name == "posix"'],
    ),
    "two sources for some environments": (
        'b = [{index = "cpu", marker = "sys_platform == \'win32\'"}, '
        "{index = \"cuda\", marker = \"python_version >= '3.12' or os_name == 'nt'\"}]",
        "",
        [
            "a",
            'b; os_name == "posix" and sys_platform == "win32" from https://cpu.example',
            'b; os_name == "posix" and (python_version >= "3.12" or os_name == "nt") from https://cuda.example',
            'b; (os_name == "posix" and sys_platform != "win32") and (python_version < "3.12" and os_name != "nt")',
        ],
    ),
    "a source for an extra, which is not wanted": (BY_EXTRA, "", ["a", 'b; os_name == "posix"']),
    "a source for an extra": (
        BY_EXTRA,
        "--extra CPU",
        ["a", 'b; os_name == "posix"', "a>=2 from https://cpu.example"],
    ),
    "a source for a group": (
        'c = {index = "cuda", group = "dev"}',
        "--group dev",
        ["a", 'b; os_name == "posix"', "c from https://cuda.example"],
    ),
    "a source for another group": (
        'c = {index = "cuda", group = "docs"}',
        "--group dev",
        ["a", 'b; os_name == "posix"', "c"],
    ),
}


@pytest.mark.parametrize("case", SOURCES)
def test_what_a_source_is_for(tmp_path: Path, case: str) -> None:
    """As uv has it: other requirements of the project, and in other environments, come from the indexes."""
    sources, entry, wanted = SOURCES[case]
    text = '[project]\nname = "x"\nversion = "1"\ndependencies = ["a", "b; os_name == \'posix\'"]\n'
    text += '[project.optional-dependencies]\ncpu = ["a>=2"]\ncuda = ["a>=2"]\n[dependency-groups]\ndev = ["c"]\n'
    (tmp_path / "pyproject.toml").write_text(text + INDEXES + sources)
    assert list(map(told, read(tmp_path, f"-r pyproject.toml {entry}"))) == wanted


COMPARISONS = st.sampled_from(
    [
        *("sys_platform == 'linux'", "'win' in sys_platform", "python_version in '3.10 3.11'", "os_name != 'nt'"),
        *("python_version < '3.11'", "python_version >= '3.9'", "'3.10' > python_version", "python_version ~= '3.9'"),
        *("python_full_version <= '3.11.2'", "python_version == '3.*'", "os_name not in 'nt java'"),
        "python_full_version === '3.11.2'",
    ]
)
MARKERS = st.recursive(
    COMPARISONS,
    lambda parts: st.tuples(parts, st.sampled_from(["and", "or"]), parts).map(lambda each: "({} {} {})".format(*each)),
    max_leaves=6,
)


@given(MARKERS, st.sampled_from(["3.8.1", "3.9.0", "3.10.4", "3.11.2", "3.12.0"]), st.sampled_from(["linux", "win32"]))
def test_the_opposite_of_a_marker(text: str, version: str, system: str) -> None:
    environment = {
        "python_full_version": version,
        "python_version": version.rpartition(".")[0],
        "sys_platform": system,
        "os_name": "nt" if system == "win32" else "posix",
    }
    marker = Marker(text)
    assert negated(marker).evaluate(environment) is not marker.evaluate(environment)


def test_settings_of_uv_that_say_where_packages_are_from(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "1"\ndependencies = ["a"]\n[tool.uv]\nindex-url = "https://one.example"\n'
        'extra-index-url = ["https://two.example"]\nfind-links = ["https://links.example"]\nprerelease = "allow"\n'
        'constraint-dependencies = ["b<2"]\nno-build-package = ["A"]\nno-binary-package = ["c"]\n'
        '[[tool.uv.index]]\nurl = "https://page.example"\nformat = "flat"\n'
    )
    found = read_requirements(PipInstall(requirements=("-r pyproject.toml",)), tmp_path, {})
    [options] = [requirement.options for requirement in found.requirements]
    assert (str(options.index_url), list(map(str, options.extra_index_urls)), list(map(str, options.find_links))) == (
        "https://one.example",
        ["https://two.example"],
        ["https://page.example", "https://links.example"],
    )
    assert (options.only_binary, options.no_binary) == (("a",), ("c",))
    assert [str(constraint) for constraint in found.constraints] == ["b<2"]
    assert [each.settings for each in found.steering] == [{"prerelease": "allow"}]


@pytest.mark.parametrize("groups", ["", *(f'[dependency-groups]\n{n} = ["a"]\n' for n in ("dev", "Dev", "docs"))])
def test_development_dependencies_as_uv_wrote_them_once_are_of_the_group_dev(tmp_path: Path, groups: str) -> None:
    older = '[tool.uv]\ndev-dependencies = ["b"]\n'
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "x"\nversion = "1"\n{groups}{older}')
    found = list(map(str, read(tmp_path, "-r pyproject.toml --group dev")))
    assert found == (["a", "b"] if "ev = " in groups else ["b"])


MISWRITTEN = {
    "index = 5": "tool.uv.index is not a list of tables",
    'index = ["https://x"]': "tool.uv.index is not a list of tables",
    "no-build-package = 5": "tool.uv.no-build-package is not a list of strings",
    'dev-dependencies = "numpy"': "tool.uv.dev-dependencies is not a list of strings",
    "index-url = 5": "tool.uv.index-url is not a list of strings",
}


@pytest.mark.parametrize("setting", MISWRITTEN)
def test_settings_of_uv_that_are_not_of_their_type(tmp_path: Path, setting: str) -> None:
    project = f'[project]\nname = "x"\nversion = "1"\ndependencies = ["a"]\n[tool.uv]\n{setting}\n'
    (tmp_path / "pyproject.toml").write_text(project)
    with pytest.raises(RequirementError) as caught:
        read(tmp_path, "-r pyproject.toml --group dev")
    assert caught.value.message == f"pyproject.toml: {MISWRITTEN[setting]}"


def test_local_packages_of_a_lock_are_named(tmp_path: Path) -> None:
    """Members of the workspace are not: they are what is being worked on."""
    lock = UV_LOCK.replace('{name = "a"}, ', '{name = "tool"}, {name = "built"}, {name = "folder"}, {name = "a"}, ')
    for name, source in (("tool", "editable"), ("folder", "directory"), ("built", "path")):
        place = f"../{name}" if source != "path" else "built-1-py3-none-any.whl"
        lock += f'\n[[package]]\nname = "{name}"\nversion = "1"\nsource = {{{source} = "{place}"}}\n'
        if source == "path":
            lock += f'wheels = [{{filename = "{place}", hash = "sha256:{DIGITS["a"]}"}}]\n'
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "uv.lock").write_text(lock)
    found = read_requirements(PipInstall(requirements=("-r uv.lock",)), tmp_path, {})
    assert [requirement.name for requirement in found.requirements] == ["a", "b", "d"]
    assert found.left_out == ("uv.lock: built", "uv.lock: folder", "uv.lock: tool")


WRONG = {
    "no table of the project": (
        "-r poetry/pyproject.toml",
        "poetry/pyproject.toml: it has no [project], which lists what it requires",
    ),
    "a page of links for one project": (
        "-r flat/pyproject.toml",
        "flat/pyproject.toml: tool.uv.sources.a: x is a page",
    ),
    "no such group": ("--group nope", "pyproject.toml: dependency-groups.nope cannot be read: "),
    "no such extra": ("-r pyproject.toml --extra nope", "pyproject.toml: there is no extra 'nope'"),
    "no project": ("a --extra x", "pip_install: --extra, --package and the like need the file of a project"),
    "no parts": ("-r pylock.toml --group dev", "pylock.toml has no groups and extras"),
    "parts of a plain file": ("-r plain.txt --group dev", "pip_install: plain.txt has no groups and extras to choose"),
    "uv cannot read it": ("-r uv.lock --extra nope", "uv.lock: uv cannot read it: "),
    "no uv.lock beside": ("-r other/uv.lock", "pip_install: -r other/uv.lock: there is no file other/uv.lock"),
    "a folder": ("-r pylock.folder.toml", "pylock.folder.toml: packages[0]: x is a folder or a file on the machine"),
    "no pylock": ("-r pylock.none.toml", "pylock.none.toml is not a pylock.toml (PEP 751): "),
    "dynamic": ("-r dynamic/pyproject.toml", "dynamic/pyproject.toml: the project computes its dependencies when"),
    "not TOML": ("-r broken/pyproject.toml", "broken/pyproject.toml cannot be read: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_taken_over(folder: Path, case: str) -> None:
    entry, message = WRONG[case]
    (folder / "plain.txt").write_text("a\n")
    for name, text in (
        ("poetry", '[tool.poetry.dependencies]\na = "^1"\n'),
        (
            "flat",
            '[project]\nname = "x"\ndependencies = ["a"]\n[[tool.uv.index]]\nname = "x"\nurl = "https://x"\n'
            'format = "flat"\nexplicit = true\n[tool.uv.sources]\na = {index = "x"}\n',
        ),
    ):
        (folder / name).mkdir()
        (folder / name / "pyproject.toml").write_text(text)
    lock = 'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "x"\ndirectory = {path = "../x"}\n'
    (folder / "pylock.folder.toml").write_text(lock)
    (folder / "pylock.none.toml").write_text("x = 1\n")
    for name, text in {"dynamic": '[project]\nname = "x"\ndynamic = ["dependencies"]\n', "broken": "= 1"}.items():
        (folder / name).mkdir()
        (folder / name / "pyproject.toml").write_text(text)
    with pytest.raises(RequirementError) as caught:
        read(folder, entry)
    assert caught.value.message.startswith(message)


def test_markers_are_joined_with_one_text() -> None:
    """Whatever the release of `packaging`: what it makes of `&` has parentheses in some."""
    posix = Marker("os_name == 'posix' or os_name == 'nt'")
    of_two = both(Marker("sys_platform != 'x'"), Marker("python_version < '4'"))
    assert str(of_two) == 'sys_platform != "x" and python_version < "4"'
    assert str(both(of_two, of_two)) == f"({of_two}) and ({of_two})"
    assert str(both(posix, of_two)) == f"({posix}) and ({of_two})"
    assert both(None, posix) == posix
