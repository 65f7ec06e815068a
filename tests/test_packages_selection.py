"""From uv's answer to exactly one artifact for each project, and from its own files to what building it needs."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

from klock.errors import FetchError, ImageError, ResolutionError
from klock.image.requirement_lines import parse_line
from klock.packages.build_system import BuildSystem, build_system_of_archive, read_build_system, read_static_metadata
from klock.packages.indexes import Index, IndexSettings
from klock.packages.request import RequirementOptions, ScopedRequirement
from klock.packages.roots import same_repository, split_revision
from klock.packages.selection import SelectedFile, SelectedPackage, SelectedRepository, select_artifacts
from klock.packages.stubs import write_stub
from klock.packages.uv_project import UvProject
from klock.packages.wheels import closure, read_wheel_metadata, required_names

MARKERS = {
    "implementation_name": "cpython",
    "implementation_version": "3.11.2",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_release": "6",
    "platform_system": "Linux",
    "platform_version": "1",
    "python_full_version": "3.11.2",
    "python_version": "3.11",
    "sys_platform": "linux",
}
TAGS = ["cp311-cp311-manylinux_2_36_x86_64", "cp311-cp311-manylinux_2_17_x86_64", "py3-none-any"]
HASH = "a" * 64


def pylock(*packages: str) -> str:
    return 'lock-version = "1.0"\ncreated-by = "uv"\n' + "".join(f"[[packages]]\n{package}\n" for package in packages)


def wheel(name: str, *, sha256: str | None = HASH, size: int | None = 5) -> str:
    hashes = f'sha256 = "{sha256}"' if sha256 else ""
    known_size = f"size = {size}, " if size else ""
    return f'{{ url = "https://u:p@h.example/{name}#sha256=00", {known_size}hashes = {{ {hashes} }} }}'


def select(text: str, **options: object) -> tuple[SelectedPackage, ...]:
    return select_artifacts(text, markers=MARKERS, tags=TAGS, **options)  # type: ignore[arg-type]


NUMPY = (
    'name = "numpy"\nversion = "2.0"\nsdist = '
    + wheel("numpy-2.0.tar.gz", sha256="b" * 64)
    + "\nwheels = ["
    + ", ".join(
        wheel(f"numpy-2.0-{tag}.whl", sha256=digit * 64)
        for tag, digit in [
            ("py3-none-any", "1"),
            ("cp311-cp311-manylinux_2_17_x86_64", "2"),
            ("cp312-cp312-manylinux_2_17_x86_64", "3"),
            ("cp311-cp311-manylinux_2_39_x86_64", "4"),
        ]
    )
    + "]"
)


def test_the_wheel_that_fits_the_environment_best_is_taken_and_its_url_has_no_credentials() -> None:
    (package,) = select(pylock(NUMPY))
    name = "numpy-2.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    assert package == SelectedPackage(
        name="numpy",
        version="2.0",
        source=SelectedFile(name=name, url=f"https://h.example/{name}", size=5, sha256="2" * 64),
    )


@pytest.mark.parametrize("names", [["numpy"], [":all:"]])
def test_no_binary_takes_the_source(names: list[str]) -> None:
    (package,) = select(pylock(NUMPY), from_source=names)
    assert isinstance(package.source, SelectedFile)
    assert (package.source.name, package.source.is_wheel) == ("numpy-2.0.tar.gz", False)


def test_a_wheel_at_a_url_has_to_fit() -> None:
    good = "numpy-2.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    (package,) = select(pylock('name = "numpy"\nversion = "2.0"\narchive = ' + wheel(good)))
    assert package.direct and isinstance(package.source, SelectedFile) and package.source.name == good
    other = "numpy-2.0-cp311-cp311-win_amd64.whl"
    with pytest.raises(ResolutionError) as caught:
        select(pylock('name = "numpy"\nversion = "2.0"\narchive = ' + wheel(other)))
    assert caught.value.message == (
        f"numpy: {other} does not fit the environment's Python: "
        "it has wheels for win_amd64 only, not for manylinux_2_36_x86_64 or older"
    )


def test_a_required_hash_narrows_the_choice() -> None:
    (package,) = select(pylock(NUMPY), hashes={"numpy": [f"sha256:{'1' * 64}"]})
    assert isinstance(package.source, SelectedFile)
    assert package.source.name == "numpy-2.0-py3-none-any.whl"


def test_no_file_with_a_required_hash() -> None:
    with pytest.raises(ResolutionError, match=r"^numpy 2.0: none of its files has a hash that --hash allows$"):
        select(pylock(NUMPY), hashes={"numpy": [f"sha256:{'9' * 64}"]})


def test_no_wheel_for_this_python_and_no_source() -> None:
    only = f'name = "x"\nversion = "1"\nwheels = [{wheel("x-1-cp312-cp312-win_amd64.whl")}]'
    with pytest.raises(ResolutionError, match="no file of a project fits the environment's Python: No wheel found"):
        select(pylock(only))


def test_a_repository_keeps_its_commit_and_loses_its_credentials() -> None:
    text = 'name = "x"\nvcs = { type = "git", url = "https://u:p@h.example/x", requested-revision = "main", '
    (package,) = select(pylock(text + f'commit-id = "{"c" * 40}" }}'))
    assert package.source == SelectedRepository(
        type="git", url="https://h.example/x", commit="c" * 40, requested_revision="main", subdirectory=None
    )
    assert package.direct


def test_a_file_without_hash_or_size_says_so() -> None:
    text = f'name = "x"\nversion = "1"\nwheels = [{wheel("x-1-py3-none-any.whl", sha256=None, size=None)}]'
    with_md5 = text.replace("hashes = {  }", 'hashes = { md5 = "00" }')
    (package,) = select(pylock(with_md5))
    assert isinstance(package.source, SelectedFile)
    assert (package.source.size, package.source.sha256) == (None, None)


# -- requirements as the image's parser reads them


@pytest.mark.parametrize(
    ("line", "text", "options"),
    [
        ("ray[data]==2.50.1", "ray[data]==2.50.1", RequirementOptions()),
        ("--pre torch==2.0.0rc1", "torch==2.0.0rc1", RequirementOptions(pre=True)),
        (
            "--index-url https://u:p%2F@h.example/simple torch",
            "torch",
            RequirementOptions(index_url="https://u:p%2F@h.example/simple"),
        ),
        ("--no-binary :all: x", "x", RequirementOptions(no_binary=(":all:",))),
        ("--no-build-isolation flash-attn==2.7.3", "flash-attn==2.7.3", RequirementOptions(no_build_isolation=True)),
        ("-U pip", "pip", RequirementOptions(upgrade=True)),
        (
            "x[a] @ https://u:p@h.example/x-1-py3-none-any.whl",
            "x[a] @ https://u:p@h.example/x-1-py3-none-any.whl",
            None,
        ),
        ("git+https://u:p@h.example/x@main", "git+https://u:p@h.example/x@main", None),
        ("/wheels/x-1-py3-none-any.whl", "x @ file:///wheels/x-1-py3-none-any.whl", None),
    ],
)
def test_a_parsed_requirement_becomes_text_for_uv(line: str, text: str, options: RequirementOptions | None) -> None:
    (parsed,) = parse_line(line, "kimage.py:4").requirements
    scoped = ScopedRequirement.of(parsed)
    assert (scoped.text, scoped.origin, scoped.options) == (text, "kimage.py:4", options or RequirementOptions())


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("x @ git+https://u:p@h/a/b.git@main#egg=x", ("x @ git+", "https://u:p@h/a/b.git", "main", "#egg=x")),
        ("git+ssh://git@h/a.git", ("git+", "ssh://git@h/a.git", None, "")),
        ("git+https://h/a@v1 ; python_version > '3'", ("git+", "https://h/a", "v1", " ; python_version > '3'")),
        ("six>=1", None),
        ("x @ https://h/x.whl", None),
    ],
)
def test_the_revision_in_a_vcs_requirement(text: str, parts: tuple[str, str, str | None, str] | None) -> None:
    assert split_revision(text) == parts


def test_a_nameless_requirement_is_told_by_its_repository() -> None:
    assert same_repository("git+https://u:p@H.example/x.git@main#egg=x", "https://h.example/x")
    assert not same_repository("git+https://h.example/x", "https://h.example/y")


# -- what depends on what

REQUIRES = {
    "ray": ["msgpack", 'pandas>=1; extra == "data"', 'old; python_version < "3"', "not a requirement!"],
    "pandas": ["Num.Py"],
    "num-py": [],
    "msgpack": ["ray[data]"],
}


def test_required_names_depend_on_markers_and_extras() -> None:
    assert required_names(REQUIRES["ray"], markers=MARKERS) == {"msgpack": frozenset()}
    assert required_names(REQUIRES["ray"], markers=MARKERS, extras=["Data"]) == {
        "msgpack": frozenset(),
        "pandas": frozenset(),
    }


@pytest.mark.parametrize("extras", [(), ("a",), ("B_c",)])
@pytest.mark.parametrize(
    "marker",
    [
        "extra == 'a'",
        'extra=="B.c"',
        "extra == 'other' or python_version > '3'",
        "python_version > '3' and extra == 'other'",
        "(extra == 'a' or extra == 'b-c') and python_version > '3'",
        "extra != 'a'",
        "'a' == extra",
        "extra == 'a' and extra == ''",
        "platform_machine == ';' or extra == 'x'",
        "platform_machine != 'extra == ;' and extra == 'a'",
    ],
)
def test_what_is_not_parsed_would_not_count(marker: str, extras: tuple[str, ...]) -> None:
    requirement = Requirement(f"x; {marker}")
    assert requirement.marker is not None
    counts = any(requirement.marker.evaluate({**MARKERS, "extra": extra}) for extra in ("", *extras))
    assert bool(required_names([f"x; {marker}"], markers=MARKERS, extras=extras)) is counts


def test_a_closure_follows_extras_through_cycles() -> None:
    reached = closure({"ray": frozenset()}, REQUIRES, markers=MARKERS)
    assert reached == {
        "ray": frozenset({"data"}),
        "msgpack": frozenset(),
        "pandas": frozenset(),
        "num-py": frozenset(),
    }


NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
GRAPHS = st.dictionaries(NAMES, st.lists(NAMES, max_size=4), min_size=1)


@given(GRAPHS, st.sets(NAMES))
def test_a_closure_is_closed_and_has_nothing_unreachable(graph: dict[str, list[str]], roots: set[str]) -> None:
    reached = set(closure({root: frozenset() for root in roots}, graph, markers=MARKERS))
    for name in reached:
        assert {other for other in graph[name] if other in graph} <= reached
    seen = {root for root in roots if root in graph}
    while more := {o for n in seen for o in graph[n] if o in graph} - seen:
        seen |= more
    assert reached == seen


def test_a_stub_is_a_wheel_with_the_distributions_own_metadata(tmp_path: Path) -> None:
    path = write_stub(
        tmp_path, name="my-torch", version="2.4.0a0+nv", requires=["numpy<2", "nonsense =="], extras=["opt"]
    )
    assert path is not None
    name, version, _, _ = parse_wheel_filename(path.name)
    assert (name, str(version)) == ("my-torch", "2.4.0a0+nv")
    found = read_wheel_metadata(path, path.name)
    assert (found.name, found.version, found.requires, found.extras) == (
        "my-torch",
        "2.4.0a0+nv",
        ("numpy<2",),
        ("opt",),
    )


def test_a_version_no_resolver_understands_makes_no_stub(tmp_path: Path) -> None:
    assert write_stub(tmp_path, name="x", version="0.1ubuntu", requires=[]) is None
    assert list(tmp_path.iterdir()) == []


@given(st.binary(max_size=200))
def test_bytes_that_are_no_wheel_are_an_error(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(content)
        with pytest.raises(FetchError, match=r"^x\.whl is not a wheel"):
            read_wheel_metadata(path, "x.whl")


# -- the question to uv


def test_the_question_to_uv_names_indexes(tmp_path: Path) -> None:
    private, links = Index(url="https://h.example/simple"), Index(url="https://l.example/x.html", flat=True)
    project = UvProject(
        dependencies=("torch>=2", "numpy"),
        direct=(),
        constraints=("numpy<2",),
        settings=IndexSettings(default=Index(url="https://pypi.org/simple"), find_links=(links,)),
        pins={"torch": private},
        preferences={"numpy": "1.26.4"},
        prereleases=("torch",),
        no_binary=("numpy",),
        fallbacks=(private,),
        stubs="/stubs",
    )
    project.write(tmp_path)
    arguments = project.arguments(python="/usr/bin/python3")
    assert arguments == [
        *("pip", "compile", "pyproject.toml", "--no-header", "--python", "/usr/bin/python3"),
        *("--constraints", "constraints.txt"),
        *("--index", "k1=https://pypi.org/simple", "--default-index", "k0=https://h.example/simple"),
        *("--no-binary", "numpy", "--prerelease-package", "torch=allow"),
        *("--format", "pylock.toml", "--output-file", "pylock.toml"),
    ]
    assert project.variables == {"UV_FIND_LINKS": "https://l.example/x.html,/stubs"}


# -- what a project says of itself


@pytest.mark.parametrize(
    ("pyproject", "expected"),
    [
        (None, BuildSystem()),
        (b"[project]\nname = 'x'", BuildSystem()),
        (b"[build-system]\nrequires = ['a']", BuildSystem(requires=("a",))),
        (
            b"[build-system]\nrequires = []\nbuild-backend = 'b:c'\nbackend-path = ['.']",
            BuildSystem(requires=(), backend="b:c", backend_path=(".",)),
        ),
    ],
)
def test_a_build_system(pyproject: bytes | None, expected: BuildSystem) -> None:
    assert read_build_system(pyproject, where="here") == expected


@pytest.mark.parametrize(
    ("pyproject", "message"),
    [
        (b"[build-system", "here: pyproject.toml cannot be read: "),
        (b"[build-system]\nrequires = 'a'", "here: [build-system] does not follow PEP 518"),
        (b"\xff", "here: pyproject.toml cannot be read: "),
    ],
)
def test_a_broken_build_system(pyproject: bytes, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        read_build_system(pyproject, where="here")
    assert caught.value.message.startswith(message)


def test_static_metadata_is_read_without_running_anything() -> None:
    text = b"[project]\nname='My_Lib'\nversion='1'\ndependencies=['six']\noptional-dependencies={Dev=['pytest']}"
    found = read_static_metadata(text, where="here")
    assert found is not None
    assert (found.name, found.version, found.dependencies, found.extras) == (
        "my-lib",
        "1",
        ("six",),
        {"dev": ("pytest",)},
    )


@pytest.mark.parametrize("dynamic", ["dependencies", "optional-dependencies"])
def test_dynamic_dependencies_must_be_asked_for(dynamic: str) -> None:
    assert read_static_metadata(f"[project]\nname='x'\ndynamic=['{dynamic}']".encode(), where="here") is None


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_only_the_pyproject_at_the_top_of_an_sdist_counts(kind: str, tmp_path: Path) -> None:
    files = {"x-1/pyproject.toml": b"[build-system]\nrequires=['top']", "x-1/sub/pyproject.toml": b"[build-system]\n"}
    path = tmp_path / "x-1"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    assert build_system_of_archive(path, "x-1").requires == ("top",)


@given(st.binary(max_size=300))
def test_any_bytes_for_a_pyproject_are_read_or_refused(content: bytes) -> None:
    try:
        read_build_system(content, where="here")
        read_static_metadata(content, where="here")
    except ImageError as error:
        assert error.message.startswith("here: ")
