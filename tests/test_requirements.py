"""Entries of pip_install and requirements files, as typed data."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import Marker
from packaging.requirements import Requirement

from klock.errors import RequirementError
from klock.image.pip_options import OWN, PipOptions
from klock.image.requirement_files import ReadFile, RequirementInputs, read_requirements
from klock.image.requirement_lines import parse_line, words_of
from klock.image.requirements import (
    FileReference,
    PackageRequirement,
    ParsedRequirement,
    PathRequirement,
    UrlRequirement,
)
from klock.image.steps import Location, PipInstall
from klock.lockfile.model import Interpreter
from klock.packages.interpreter import TargetPython
from klock.packages.request import PipRequest, ScopedRequirement
from klock.packages.roots import roots_in
from klock.secrets.userinfo import PrivateUrl

HASH = "sha256:" + "ab" * 32


def package(text: str, *, hashes: tuple[str, ...] = (), **options: object) -> PackageRequirement:
    return PackageRequirement(
        requirement=Requirement(text),
        hashes=hashes,
        options=PipOptions(**options),  # type: ignore[arg-type]
    )


def url(text: str) -> PrivateUrl:
    return PrivateUrl.parse(text)


ENTRIES: dict[str, tuple[str, list[ParsedRequirement]]] = {
    "13: a version": ("numpy>=1.20", [package("numpy>=1.20")]),
    "14: two bounds": ("torch>=2.0,<3.0", [package("torch>=2.0,<3.0")]),
    "15: quoted": ("'torch>=2.2.0'", [package("torch>=2.2.0")]),
    "16: spaces, quoted": ("'numpy > 2.0.0'", [package("numpy>2.0.0")]),
    "16: spaces": ("numpy > 2.0.0", [package("numpy>2.0.0")]),
    "17: extras": ("ray[data]==2.50.1", [package("ray[data]==2.50.1")]),
    "17: extras, quoted": ("'ray[data]'", [package("ray[data]")]),
    "18: a pre-release": ("--pre torch==2.0.0rc1", [package("torch==2.0.0rc1", pre=True)]),
    "18: quoted after a flag": ("--pre 'torch>=2.2.0'", [package("torch>=2.2.0", pre=True)]),
    "18: uv's way": ("--prerelease=allow torch", [package("torch", pre=True)]),
    "18: uv's way, the default": ("--prerelease if-necessary torch", [package("torch")]),
    "19: an index": ("--index-url https://a/simple torch", [package("torch", index_url=url("https://a/simple"))]),
    "19: an index behind": ("torch -i https://a/simple", [package("torch", index_url=url("https://a/simple"))]),
    "19: with =": ("--index-url=https://a/s torch", [package("torch", index_url=url("https://a/s"))]),
    "19: the last index wins": ("-i https://a -i https://b x", [package("x", index_url=url("https://b"))]),
    "19: more indexes": (
        "--extra-index-url https://a/s --extra-index-url https://b/s x",
        [package("x", extra_index_urls=(url("https://a/s"), url("https://b/s")))],
    ),
    "19: links": (
        "-f https://a/x.html --no-index x",
        [package("x", find_links=(url("https://a/x.html"),), no_index=True)],
    ),
    "an index with a name, as uv has it": (
        "--index corp=https://a --default-index x=https://b y",
        [package("y", index_url=url("https://b"), extra_index_urls=(url("https://a"),))],
    ),
    "19: no binary": ("--no-binary :all: x", [package("x", no_binary=(":all:",))]),
    "19: only binary": ("--only-binary A_b,c x", [package("x", only_binary=("a-b", "c"))]),
    "19: :none: empties": ("--no-binary a --no-binary :none:,b x", [package("x", no_binary=("b",))]),
    "19: for both of two": ("--pre a b", [package("a", pre=True), package("b", pre=True)]),
    "20: no build isolation": (
        "--no-build-isolation flash-attn==2.7.3",
        [package("flash-attn==2.7.3", no_build_isolation=True)],
    ),
    "22: a path with extras": ("/my_lib[opora]", [PathRequirement(path="/my_lib", extras=("opora",))]),
    "22: editable": ("-e /my_lib", [PathRequirement(path="/my_lib", editable=True)]),
    "22: editable with extras": (
        '-e "/my_lib[dev,Test_x]"',
        [PathRequirement(path="/my_lib", extras=("dev", "test-x"), editable=True)],
    ),
    "22: a relative path": ("./x/", [PathRequirement(path="./x")]),
    "22: the working directory": (".[a]", [PathRequirement(path=".", extras=("a",))]),
    "22: a path with a marker": (
        "./x ; python_version > '3.8'",
        [PathRequirement(path="./x", marker=Marker("python_version > '3.8'"))],
    ),
    "22: a wheel": ("/w/a_b-1.0-py3-none-any.whl", [PathRequirement(path="/w/a_b-1.0-py3-none-any.whl", name="a-b")]),
    "57: a file URL is percent-decoded": ("file:///my%20lib", [PathRequirement(path="/my lib")]),
    "57: a named file URL": ("My_Lib[a] @ file:///l", [PathRequirement(path="/l", name="my-lib", extras=("a",))]),
    "several": ("torch numpy", [package("torch"), package("numpy")]),
    "several, quoted": ("'torch>=2' \"numpy<2\"", [package("torch>=2"), package("numpy<2")]),
    "a marker": ("a; python_version < '3.12'", [package("a; python_version < '3.12'")]),
    "a marker after a flag": ('--pre a ; sys_platform == "linux"', [package('a; sys_platform == "linux"', pre=True)]),
    "an archive": ("https://h/a.zip", [UrlRequirement(url=url("https://h/a.zip"))]),
    "a named archive": (
        "b[x] @ https://h/a.zip",
        [UrlRequirement(url=url("https://h/a.zip"), name="b", extras=("x",))],
    ),
    "a wheel at a URL": (
        f"https://h/a-1-py3-none-any.whl#sha256={'AB' * 32}",
        [
            UrlRequirement(
                url=url(f"https://h/a-1-py3-none-any.whl#sha256={'AB' * 32}"), name="a", fragment_hashes=(HASH,)
            )
        ],
    ),
    "a wheel in the environment, with a hash": (
        f"a @ file:///w/a-1.whl#sha512={'0' * 128}",
        [PathRequirement(path="/w/a-1.whl", name="a", fragment_hashes=(f"sha512:{'0' * 128}",))],
    ),
    "a repository": ("git+https://h/b@v1", [UrlRequirement(url=url("git+https://h/b@v1"))]),
    "a named repository": (
        "b @ git+https://h/b ; python_version > '3'",
        [UrlRequirement(url=url("git+https://h/b"), name="b", marker=Marker("python_version > '3'"))],
    ),
    "an editable repository": (
        "-e git+ssh://git@h/b#egg=B_c[x]",
        [UrlRequirement(url=url("git+ssh://git@h/b#egg=B_c[x]"), name="b-c", extras=("x",), editable=True)],
    ),
    "a hash": (f"a==1 --hash={HASH}", [package("a==1", hashes=(HASH,))]),
    "an upgrade": ("-U pip", [package("pip", upgrade=True)]),
    "options that lock nothing else": ("--no-cache-dir -q --progress-bar off a", [package("a")]),
}


@pytest.mark.parametrize("case", ENTRIES)
def test_an_entry(case: str) -> None:
    text, requirements = ENTRIES[case]
    assert list(parse_line(text, "here").requirements) == requirements


def test_case_21_files_are_named() -> None:
    line = parse_line("-r a.txt --pre -cb.txt x", "here")
    options = PipOptions(pre=True)
    assert line.files == (
        FileReference(path="a.txt", constraint=False, options=options),
        FileReference(path="b.txt", constraint=True, options=options),
    )
    assert line.requirements == (package("x", pre=True),)


def test_what_a_requirement_knows() -> None:
    (requirement,) = parse_line("Zope.Interface[b,A]; python_version > '3'", "here").requirements
    assert isinstance(requirement, PackageRequirement)
    assert (requirement.name, requirement.extras, requirement.where) == ("zope-interface", ("A", "b"), "here")
    assert requirement.marker == Marker("python_version > '3'")


def test_case_64_credentials_are_kept_apart() -> None:
    line = parse_line(
        "--index-url https://${USER_X}:${PASS_X}@h/simple x", "here", {"USER_X": "me", "PASS_X": "p%40ss"}
    )
    index = line.options.index_url
    assert index is not None
    assert (index.url, index.username, index.password) == ("https://h/simple", "me", "p@ss")
    assert line.variables == ("PASS_X", "USER_X")
    assert "p@ss" not in repr(line) and "p%40ss" not in repr(line)
    (requirement,) = parse_line("x @ https://me:secret@h/x.zip", "here").requirements
    assert isinstance(requirement, UrlRequirement)
    assert str(requirement) == "x @ https://h/x.zip"
    assert requirement.url.with_credentials == "https://me:secret@h/x.zip"


WRONG = {
    "an editable archive": (
        "-e https://h/a-1.0-py3-none-any.whl",
        "here: -e is for a folder of the environment or a repository, not for an archive: "
        "https://h/a-1.0-py3-none-any.whl",
    ),
    "51: an option that is not supported": ("--no-deps x", "here: the option --no-deps is not supported"),
    "51: a short one": ("-t /x y", "here: the option -t is not supported"),
    "an option without its value": ("--index-url", "here: --index-url needs a value: --index-url"),
    "an option instead of a value": ("-r --pre", "here: -r needs a value: -r --pre"),
    "a flag with a value": ("--pre=yes x", "here: --pre takes no value: --pre=yes"),
    "an open quote": ("'numpy", "here: a quote is not closed: 'numpy"),
    "one =": ("numpy=1.0", "here: not a requirement: 'numpy=1.0': "),
    "shell": ("numpy && rm -x", "here: the option -x is not supported"),
    "shell signs": ("a | b", "here: not a requirement: 'a | b': "),
    "not a version": ("a>=b.c", "here: not a requirement: 'a>=b.c': "),
    "not a marker": ("./x ; y", "here: not an environment marker: 'y'"),
    "not an extra": ("/x[a b]", "here: not the name of an extra: 'a b'"),
    "a home": ("~/x", "here: not a path inside the environment: '~/x'"),
    "a name at no URL": ("a @ b c", "here: a path or URL has no spaces: 'b c'"),
    "not a hash": ("a==1 --hash=sha256:12", "here: not a hash: sha256:12"),
    "a weak hash": ("a==1 --hash=md5:" + "0" * 32, "here: not a hash: md5:" + "0" * 32),
    "too long a hash in a URL": (
        f"a @ https://h/a.zip#sha256={'0' * 65}",
        f"here: the hash in https://h/a.zip#sha256={'0' * 65} cannot be checked: sha256 has 65 digits (expected 64)",
    ),
    "no hash in a URL": (
        f"https://h/a.zip#egg=a&sha256={'x' * 64}",
        f"here: the hash in https://h/a.zip#egg=a&sha256={'x' * 64} cannot be checked: "
        "sha256 has something in it that is not a hexadecimal digit",
    ),
    "an empty hash in a URL": (
        "file:///a.zip#md5=",
        "here: the hash in file:///a.zip#md5= cannot be checked: md5 has 0 digits (expected 32)",
    ),
    "an unknown hash in a URL": (
        "https://h/a.zip#sha3_256=00",
        "here: the hash in https://h/a.zip#sha3_256=00 cannot be checked: 'sha3_256' is not a hash that can be "
        "checked; write one of sha256, sha384, sha512, sha224, sha1, md5, and = behind it",
    ),
    "a hash in a URL, written as --hash has it": (
        "https://h/a.zip#sha256:00",
        "here: the hash in https://h/a.zip#sha256:00 cannot be checked: 'sha256:00' is not a hash that can be checked; "
        "write one of sha256, sha384, sha512, sha224, sha1, md5, and = behind it",
    ),
    "a hash of a repository": (
        f"git+https://h/b#sha256={'0' * 64}",
        f"here: a repository has no hash: git+https://h/b#sha256={'0' * 64}",
    ),
    "a hash for two": (f"a b --hash={HASH}", "here: --hash goes with exactly one requirement, not 2"),
    "--prerelease": ("--prerelease=yes x", "here: --prerelease has no value 'yes'"),
    "64: credentials in a message": (
        "a @@ https://me:hunter2@h/",
        "here: a path or URL has no spaces: '@ https://***@h/'",
    ),
    "64: a variable that is not set": ("-i https://${NO_USER}@h x", "here: ${NO_USER} is used, but NO_USER is not set"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_entry(case: str) -> None:
    text, message = WRONG[case]
    with pytest.raises(RequirementError) as caught:
        parse_line(text, "here", {})
    assert _said(caught.value) == message


def _said(error: RequirementError) -> str:
    """The message, without the reason that the packaging library gives."""
    return re.sub(r"(not a requirement: '.*': ).*", r"\1", str(error))


@given(st.text(alphabet="ab1-=<>[].,;@/'\" :\\$&!~#{}", max_size=30))
def test_any_entry_is_read_or_refused(text: str) -> None:
    try:
        line = parse_line(text, "here")
    except RequirementError as error:
        assert str(error).startswith("here: ")
    else:
        again = [r for word in _grouped(words_of(text)) for r in parse_line(word, "here").requirements]
        assert [str(r) for r in again] == [str(r) for r in line.requirements if not _is_editable(r)] + [
            str(r) for r in line.requirements if _is_editable(r)
        ]


def _grouped(words: list[str]) -> list[str]:
    """The words of a command line, editables and what they are about together, and last."""
    import shlex

    plain, editable = [], []
    queue = iter(words)
    for word in queue:
        if word in ("-e", "--editable"):
            editable.append(f"-e {shlex.quote(next(queue))}")
        elif word.startswith("-"):
            if word not in ("-U", "-q", "-v", "--pre"):
                next(queue)
        else:
            plain.append(shlex.quote(word))
    return plain + editable


def _is_editable(requirement: ParsedRequirement) -> bool:
    return not isinstance(requirement, PackageRequirement) and requirement.editable


# -- files


def read(folder: Path, *entries: str, environ: Any = None, **files: str) -> RequirementInputs:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_txt", ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    step = PipInstall(requirements=entries, location=Location(file=str(folder / "kimage.py"), line=3))
    return read_requirements(step, folder, environ or {})


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def test_case_21_files_with_nested_files(tmp_path: Path) -> None:
    top, nested, limits = "a>=1  # why\n-r deps/more.txt\n", "b[x] \\\n  ==2\n-c ../limits.txt\n", "c<3\n"
    inputs = read(tmp_path, "z", "-r top.txt", top_txt=top, deps__more_txt=nested, limits_txt=limits)
    assert [str(r) for r in inputs.requirements] == ["z", "a>=1", "b[x]==2"]
    assert [r.where for r in inputs.requirements] == ["kimage.py:3: pip_install", "top.txt:1", "deps/more.txt:1"]
    assert [str(r) for r in inputs.constraints] == ["c<3"]
    assert inputs.files == (
        ReadFile(path="deps/more.txt", digest=digest(nested)),
        ReadFile(path="limits.txt", digest=digest(limits)),
        ReadFile(path="top.txt", digest=digest(top)),
    )


def test_a_constraint_may_be_a_url_and_have_a_hash(tmp_path: Path) -> None:
    limits = f"a @ https://h/a-1-py3-none-any.whl\nb==2 --hash={HASH}\nc @ git+https://h/c@v1\n"
    inputs = read(tmp_path, "-c limits.txt", limits_txt=limits)
    wanted = ["a @ https://h/a-1-py3-none-any.whl", "b==2", "c @ git+https://h/c@v1"]
    assert [str(r) for r in inputs.constraints] == wanted
    assert [r.hashes for r in inputs.constraints] == [(), (HASH,), ()]
    for wrong in ("a[x] @ https://h/a.zip", "https://h/b.zip", "-e git+https://h/c#egg=c", "./d"):
        with pytest.raises(RequirementError, match="without extras or a path"):
            read(tmp_path, "-c limits.txt", limits_txt=f"{wrong}\n")


def test_options_of_a_file_hold_for_all_it_brings_in(tmp_path: Path) -> None:
    inputs = read(
        tmp_path,
        "--extra-index-url https://entry -r a.txt",
        "other",
        a_txt="x\n--index-url https://a\n-r b.txt\n",
        b_txt="--pre\n--extra-index-url https://b\ny\n",
    )
    options = PipOptions(
        index_url=url("https://a"), extra_index_urls=(url("https://entry"), url("https://b")), pre=True, for_all=True
    )
    assert [r.options for r in inputs.requirements] == [options, options, PipOptions()]


def test_an_option_beside_a_requirement_holds_for_it_alone(tmp_path: Path) -> None:
    inputs = read(tmp_path, "-r a.txt", a_txt="--pre torch==2.0rc1\n--index-url https://a x\ny --no-binary y\nz\n")
    assert list(inputs.requirements) == [
        package("torch==2.0rc1", pre=True),
        package("x", index_url=url("https://a")),
        package("y", no_binary=("y",)),
        package("z"),
    ]


@pytest.mark.parametrize(("marker", "is_refused"), [("sys_platform == 'win32'", False), ("sys_platform == 'x'", True)])
def test_what_lacks_a_hash_may_be_for_other_systems(tmp_path: Path, marker: str, *, is_refused: bool) -> None:
    text = f"a==1 --hash={HASH}\nb==1; {marker}\nc @ https://h/c.zip ; {marker}\n"
    text += f"d @ https://h/d.zip#sha256={HASH.removeprefix('sha256:')}\n"
    scoped = tuple(map(ScopedRequirement.of, read(tmp_path, "-r a.txt", a_txt=text).requirements))
    interpreter = Interpreter(path="/p", version="3.11.2", implementation="cpython", libc="", sha256="")
    python = TargetPython(interpreter=interpreter, markers={"sys_platform": "x"}, tags=(), installed=())
    if not is_refused:
        assert [root.name for root in roots_in(python, [PipRequest(requirements=scoped)])] == ["a", "d"]
        return
    with pytest.raises(RequirementError, match=r'^a.txt:2: b==1; sys_platform == "x" has no --hash, though others'):
        roots_in(python, [PipRequest(requirements=scoped)])


def test_options_alone_are_for_the_whole_call(tmp_path: Path) -> None:
    """As on pip's command line, and in the list of an environment.yml."""
    inputs = read(tmp_path, "x", "--extra-index-url https://a", "-i https://b y", "-r a.txt", "--pre -q", a_txt="z\n")
    of_all: dict[str, Any] = {"extra_index_urls": (url("https://a"),), "pre": True}
    assert list(inputs.requirements) == [
        package("x", for_all=True, **of_all),
        package("y", index_url=url("https://b"), **of_all),
        package("z", for_all=True, **of_all),
    ]


ALL = {
    "in a file": ("-r a.txt", "--only-binary :all:\nx\n--no-binary :all:", ((":all:",), (":all:",))),
    "for a file": ("-r a.txt --no-binary :all:", "x", ((":all:",), ())),
    "beside a requirement": ("--no-binary :all: x", "", ((OWN, "x"), ())),
    "on a line": ("-r a.txt", "x --only-binary :all:", ((), (OWN, "x"))),
    "beside what has no name": ("--no-binary :all: https://h/archive", "", ((OWN,), ())),
    "one that is named": ("--no-binary X x", "", (("x",), ())),
}


@pytest.mark.parametrize("case", ALL)
def test_all_is_all_of_a_file_or_one_requirement(tmp_path: Path, case: str) -> None:
    entry, text, wanted = ALL[case]
    [requirement] = read(tmp_path, entry, a_txt=text).requirements
    assert (requirement.options.no_binary, requirement.options.only_binary) == wanted


def test_hashes_are_kept(tmp_path: Path) -> None:
    other = "sha256:" + "cd" * 32
    inputs = read(tmp_path, "-r a.txt", a_txt=f"a==1 \\\n    --hash={HASH} \\\n    --hash={other}\n")
    assert list(inputs.requirements) == [package("a==1", hashes=(HASH, other))]


@pytest.mark.parametrize(
    ("encoding", "first"), [("utf-8-sig", ""), ("utf-16", ""), ("latin-1", "# -*- coding: latin-1 -*-\n")]
)
def test_a_file_says_its_encoding(tmp_path: Path, encoding: str, first: str) -> None:
    (tmp_path / "a.txt").write_text(f"{first}a  # ü\nb\n", encoding=encoding)
    assert [str(r) for r in read(tmp_path, "-r a.txt").requirements] == ["a", "b"]


def test_variables_are_put_in_as_pip_does(tmp_path: Path) -> None:
    inputs = read(
        tmp_path, "-r a.txt", environ={"PASS_X": "hunter2"}, a_txt="--index-url https://u:${PASS_X}@h/simple\nx\n"
    )
    index = inputs.requirements[0].options.index_url
    assert index is not None and (index.url, index.password) == ("https://h/simple", "hunter2")
    assert inputs.variables == ("PASS_X",)


def test_a_file_outside_the_folder_has_a_relative_name(tmp_path: Path) -> None:
    (tmp_path / "shared.txt").write_text("a\n")
    (tmp_path / "project").mkdir()
    inputs = read(tmp_path / "project", f"-r {tmp_path}/shared.txt")
    assert [f.path for f in inputs.files] == ["../shared.txt"]


WRONG_FILES: dict[str, tuple[dict[str, str], str]] = {
    "21: a missing file": ({}, "kimage.py:3: pip_install: -r a.txt: there is no file a.txt"),
    "21: a missing nested file": ({"a_txt": "x\n-c b.txt"}, "a.txt:2: -c b.txt: there is no file b.txt"),
    "a file that includes itself": ({"a_txt": "-r b.txt", "b_txt": "-r a.txt"}, "b.txt:1: a.txt includes itself"),
    "a remote file": (
        {"a_txt": "-r https://h/x.txt"},
        "a.txt:1: a requirements file must be a local file, not https://h/x.txt",
    ),
    "an invalid line": (
        {"a_txt": "a\n\nb=1\n"},
        "a.txt:3: not a requirement: 'b=1': ",
    ),
    "two on a line": (
        {"a_txt": "a b\n"},
        "a.txt:1: not a requirement: 'a b': ",
    ),
    "an unknown option": ({"a_txt": "--use-feature x\n"}, "a.txt:1: the option --use-feature is not supported"),
    "a constraint with extras": (
        {"a_txt": "-c b.txt", "b_txt": "x[y]<1"},
        "b.txt:1: a constraint is a name with a version or a URL, without extras or a path",
    ),
    "a hash for some": (
        {"a_txt": f"a==1 --hash={HASH}\nb==1\n"},
        "a.txt:2: b==1 has no --hash, though others in the file have one",
    ),
    "--require-hashes": (
        {"a_txt": "--require-hashes\nb\n"},
        "a.txt:2: b has no --hash, though others in the file have one",
    ),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_a_wrong_file(case: str, tmp_path: Path) -> None:
    files, message = WRONG_FILES[case]
    with pytest.raises(RequirementError) as caught:
        read(tmp_path, "-r a.txt", **files)
    assert _said(caught.value) == message


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(RequirementError, match=r"a\.txt: not a text in utf-8"):
        read(tmp_path, "-r a.txt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RequirementError, match="-r folder: cannot read folder: Is a directory"):
        read(tmp_path, "-r folder")


@given(st.text(alphabet="ab1-rc=<>[];@/'\" \\\n#$.", max_size=60))
def test_any_file_is_read_or_refused(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "f.txt").write_text(text, encoding="utf-8")
        try:
            inputs = read(folder, "-r f.txt")
        except RequirementError as error:
            assert str(error).startswith(("f.txt:", "kimage.py:3:"))
        else:
            assert all(r.where.startswith("f.txt:") for r in inputs.requirements)
