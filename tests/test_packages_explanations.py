"""What uv says when it fails, as klock's errors: which requirement, from which line, why, and what to do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.errors import FetchError, KlockError, RequirementError, ResolutionError
from klock.packages.build_failures import UnbuiltSource, essence, hint_for_build
from klock.packages.explanations import Asked, error_from_uv, missing_projects, warnings_from_uv
from klock.packages.no_wheel import why_no_wheel
from klock.recorder import OUTSIDE

REQUIREMENTS = [
    Asked(name="six", text="six>=99", origin="kimage.py:7: pip_install"),
    Asked(name="ray", text="ray[data]", origin="kimage.py:8: pip_install"),
    Asked(name="zope-interface", text="zope.interface", origin="requirements.txt:3"),
]

UNSATISFIABLE = """\
error: No solution found when resolving dependencies
  cause: Because only six<=1.17.0 is available and this-image depends on six>=99, we can conclude that your \
requirements are unsatisfiable.

hint: `six` was requested with a pre-release marker, set [tool.uv] this and that
"""
REFUSED = """\
error: No solution found when resolving dependencies
  cause: Because six was not found in the package registry and this-image depends on six, we can conclude that [...]

hint: An index URL (http://h/simple/) could not be queried due to a lack of valid authentication credentials \
(401 Unauthorized)
"""
UNREACHABLE = """\
error: Request failed after 3 retries in 9.2s
  cause: Failed to fetch: https://h.example/simple/six/
  cause: dns error
"""
BUILD_FAILS = """\
error: Failed to build `ray==2.0`
  cause: The build backend returned an error
  cause: Call to `setuptools.build_meta.build_wheel` failed (exit status: 1)
         [stderr]
         error: gcc: No such file, six is fine
"""
NO_GIT = """\
  x Failed to download and build `ray @ git+https://h/ray`
error: Failed to download and build `ray @ git+https://h/ray`
  cause: Git operation failed
  cause: Git executable not found. Ensure that Git is installed and available.
"""
LATER_PYTHON = """\
error: No solution found when resolving dependencies
  cause: Because the current Python version (3.11.2) does not satisfy Python>=3.12 and six==2.0 depends on \
Python>=3.12, we can conclude that six==2.0 cannot be used.
"""
NO_VERSIONS = """\
error: No solution found when resolving dependencies
  cause: Because there are no versions of six and this-image depends on six, we can conclude that your requirements \
are unsatisfiable.
"""
NO_WHEEL = """\
error: No solution found when resolving dependencies
  cause: Because six==1.0 has no wheels with a matching platform tag (e.g., `manylinux_2_36_x86_64`) and this-image \
depends on six, we can conclude that your requirements are unsatisfiable.

hint: Wheels are available for `six` (v1.0) on the following platform: `win32`
"""
FORBIDDEN = """\
error: No solution found when resolving dependencies
  cause: Because six was not found in the package registry and this-image depends on six, we can conclude that [...]

hint: An index (http://h/simple/) returned a 403 Forbidden error. Check that the index URL is correct.
"""
UNDECLARED = """\
   Building ray==2.0
error: Failed to build `ray==2.0`
  cause: The build backend returned an error
  cause: Call to `setuptools.build_meta.get_requires_for_build_wheel` failed (exit status: 1)

         [stderr]
         Traceback (most recent call last):
           File "<string>", line 14, in <module>
             from torch.utils import x
           File "setup.py", line 2, in <module>
         ModuleNotFoundError: No module named 'torch'

hint: This error likely indicates that `ray@2.0` depends on `torch`, but doesn't declare it as a build dependency. If

[tool.uv.extra-build-dependencies]
ray = ["torch"]
"""
UNREADABLE = "error: Couldn't parse requirement in `pyproject.toml`: six>>1\n"


@pytest.mark.parametrize(
    ("output", "kind", "message", "hint"),
    [
        (
            UNSATISFIABLE,
            ResolutionError,
            "cannot meet kimage.py:7: pip_install: six>=99\nBecause only six<=1.17.0 is available and this-image "
            "depends on six>=99, we can conclude that your requirements are unsatisfiable.",
            'to allow a pre-release, write pip_install(["--pre NAME"]), or name its exact version',
        ),
        (
            REFUSED,
            FetchError,
            "an index refuses access: Because six was not found in the package registry and this-image depends on six, "
            "we can conclude that [...]\nAn index URL (http://h/simple/) could not be queried due to a lack of "
            "valid authentication credentials (401 Unauthorized)",
            "give user name and password by netrc, in UV_INDEX_<NAME>_USERNAME and _PASSWORD, or in the index URL",
        ),
        (
            UNREACHABLE,
            FetchError,
            "an index cannot be read: https://h.example/simple/six/: dns error",
            "check the network and the index URLs; --offline locks with what the store has",
        ),
        (
            FORBIDDEN,
            FetchError,
            "an index refuses access: Because six was not found in the package registry and this-image depends on six, "
            "we can conclude that [...]\nAn index (http://h/simple/) returned a 403 Forbidden error. Check that the "
            "index URL is correct.",
            "give user name and password by netrc, in UV_INDEX_<NAME>_USERNAME and _PASSWORD, or in the index URL",
        ),
        (
            NO_WHEEL,
            ResolutionError,
            "cannot meet kimage.py:7: pip_install: six>=99\nBecause six==1.0 has no wheels with a matching platform "
            "tag (e.g., `manylinux_2_36_x86_64`) and this-image depends on six, we can conclude that your requirements "
            "are unsatisfiable.\nWheels are available for `six` (v1.0) on the following platform: `win32`",
            "ask for a version that has a wheel for this Python, or take a base whose Python it has wheels for",
        ),
        (
            UNDECLARED,
            UnbuiltSource,
            "kimage.py:8: pip_install: ray[data]: ray==2.0 has wheels for cp39 only, not for cp311, and building its "
            "source fails: Failed to build `ray==2.0`\nThe build backend returned an error\n"
            "Call to `setuptools.build_meta.get_requires_for_build_wheel` failed (exit status: 1)\n[stderr]\n"
            "ModuleNotFoundError: No module named 'torch'",
            "ray imports torch when it is built, and does not declare that it needs it (uv's extra-build-dependencies)"
            '. Build it against what the image has: pip_install(["torch"]).pip_install(["--no-build-isolation ray"])',
        ),
        (
            BUILD_FAILS,
            UnbuiltSource,
            "kimage.py:8: pip_install: ray[data]: ray==2.0 has wheels for cp39 only, not for cp311, and building its "
            "source fails: Failed to build `ray==2.0`\nThe build backend returned an error\n"
            "Call to `setuptools.build_meta.build_wheel` failed (exit status: 1)\n[stderr]\n"
            "error: gcc: No such file, six is fine",
            "ask for a version that has a wheel for this Python, or install what the build needs (compilers, libraries)"
            " in an earlier step; a build has no network",
        ),
        (
            NO_GIT,
            UnbuiltSource,
            "kimage.py:8: pip_install: ray[data]: cannot fetch or build its source: "
            "Failed to download and build `ray @ git+https://h/ray`\nGit operation failed\n"
            "Git executable not found. Ensure that Git is installed and available.",
            "install git in an earlier step: klock builds the source to read its metadata",
        ),
        (
            UNREADABLE,
            RequirementError,
            "kimage.py:7: pip_install: six>=99: Couldn't parse requirement in `pyproject.toml`: six>>1",
            None,
        ),
        ("", ResolutionError, "cannot meet the image's requirements\nuv gave no reason", None),
        (
            LATER_PYTHON,
            ResolutionError,
            "cannot meet kimage.py:7: pip_install: six>=99\nBecause the current Python version (3.11.2) does not "
            "satisfy Python>=3.12 and six==2.0 depends on Python>=3.12, we can conclude that six==2.0 cannot be used.",
            "ask for a version that is for this Python, or take a base with another one",
        ),
        (
            NO_VERSIONS,
            ResolutionError,
            "cannot meet kimage.py:7: pip_install: six>=99\nBecause there are no versions of six and this-image "
            "depends on six, we can conclude that your requirements are unsatisfiable.",
            "the page https://h/simple/six/ lists no files: the index may want a login, or another URL",
        ),
        *(
            (
                f"error: {reason} for `https://h/simple/six/`{more}\n",
                FetchError,
                f"an index cannot be read: {reason} for `https://h/simple/six/`{more}",
                "check the network and the index URLs; --offline locks with what the store has",
            )
            for reason, more in (
                ('Unsupported `Content-Type` "text/plain"', ". Expected JSON or HTML."),
                ("Missing `Content-Type` header", ""),
            )
        ),
    ],
    ids=[
        *("unsatisfiable", "refused", "unreachable", "forbidden", "no wheel that fits", "undeclared", "build fails"),
        *("no git", "unreadable", "nothing said", "later Python", "no versions", "text", "no type"),
    ],
)
def test_an_error_names_the_requirement_its_line_and_the_reason(
    output: str, kind: type[KlockError], message: str, hint: str | None
) -> None:
    error = error_from_uv(
        output,
        requirements=REQUIREMENTS,
        why_no_wheel=lambda *_: "has wheels for cp39 only, not for cp311",
        empty_page=lambda name: f"https://h/simple/{name}/",
    )
    assert isinstance(error, kind) and error.message == message
    if hint is not None:
        assert error.hint == hint


def test_a_conflict_with_a_constraint_names_its_file_and_line() -> None:
    constraints = [Asked(name="six", text="six<2", origin="constraints.txt:3"), Asked(name="b", text="b", origin="c:1")]
    error = error_from_uv(
        "error: No solution found when resolving dependencies\n  cause: Because this-image wants six>=99 and six<2",
        requirements=REQUIREMENTS,
        constraints=constraints,
    )
    assert error.message.splitlines()[0] == (
        "cannot meet kimage.py:7: pip_install: six>=99; constrained by constraints.txt:3: six<2"
    )
    assert error.hint == "change the constraint, or a requirement named above"


@pytest.mark.parametrize(
    ("wheels", "why"),
    [
        ([], "has no wheel"),
        (["a-2.0-py3-none-any.whl", "a-1.0.tar.gz", "what"], "has no wheel"),
        (["a-1.0-py3-none-any.whl", "a-1.0-cp39-cp39-win32.whl"], ""),
        (
            ["a-1.0-cp310-cp310-win32.whl", "a-1.0-cp39-cp39-win32.whl", "a-1.0-cp37-cp37m-win32.whl"],
            "has wheels for cp37, cp39, cp310 only, not for cp311",
        ),
        (["a-1.0-cp311-cp311t-manylinux_2_17_x86_64.whl"], "has wheels for cp311t only, not for cp311"),
        (
            ["a-1.0-cp311-cp311-musllinux_1_1_x86_64.whl", "a-1.0-cp37-abi3-win32.whl"],
            "has wheels for musllinux_1_1_x86_64, win32 only, not for manylinux_2_36_x86_64 or older",
        ),
    ],
)
def test_why_there_is_no_wheel(wheels: list[str], why: str) -> None:
    tags = [
        *("cp311-cp311-manylinux_2_36_x86_64", "cp311-cp311-manylinux_2_17_x86_64"),
        *("cp37-abi3-manylinux_2_36_x86_64", "py3-none-any"),
    ]
    assert why_no_wheel("1.0", wheels, tags) == why


def test_of_a_traceback_the_reason_is_kept_and_the_frames_are_not() -> None:
    output = (
        "running build\nTraceback (most recent call last):\n  File 'a', line 1, in f\n    x()\nValueError: one\n\n"
        "During handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n"
        "  File 'b', line 1, in g\n    y()\n\nRuntimeError: two\n  with more\n"
    )
    assert essence(output).splitlines() == [
        *("running build", "ValueError: one", "During handling of the above exception, another exception occurred:"),
        *("RuntimeError: two", "  with more"),
    ]
    assert essence("x\n" * 40).splitlines() == ["...", *["x"] * 16]


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        ("ModuleNotFoundError: No module named 'distutils'", "the Python of the base is too new for x: "),
        ("ImportError: No module named numpy", "x imports numpy when it is built, "),
        ("error: command 'gcc' failed", "ask for a version that has a wheel for this Python, "),
    ],
)
def test_what_to_do_about_a_build_that_fails(output: str, hint: str) -> None:
    assert hint_for_build(output, "x").startswith(hint)


OUT_OF_REACH = f"GET https://files.example/six-1.0.tar.gz: {OUTSIDE}"


@pytest.mark.parametrize(
    "output",
    [
        "error: Failed to download `six @ https://h/x`\n  cause: HTTP status client error (403 Forbidden) for url (h)",
        "error: Failed to build `six==1.0`\n  cause: The build backend returned an error",
    ],
)
def test_what_is_out_of_reach_is_named_with_the_way_to_reach_it(output: str) -> None:
    error = error_from_uv(output, requirements=REQUIREMENTS, refused=[OUT_OF_REACH])
    assert error.message.startswith("kimage.py:7: pip_install: six>=99: klock refused a request that uv needs: ")
    assert error.message.endswith(f"\n  {OUT_OF_REACH}")
    assert error.hint == "name the server as an index; or the URL in a requirement, pip_install(['NAME @ URL'])"


def test_who_asks_in_vain_is_not_the_reason_for_another_failure() -> None:
    error = error_from_uv(UNSATISFIABLE, requirements=REQUIREMENTS, refused=[OUT_OF_REACH])
    assert error.message.startswith("cannot meet kimage.py:7: pip_install: six>=99")
    assert OUT_OF_REACH in error.message


def test_a_name_is_found_as_uv_normalises_it() -> None:
    output = "error: No solution found\n  cause: Because zope-interface was not found in the package registry, ..."
    assert "requirements.txt:3: zope.interface" in error_from_uv(output, requirements=REQUIREMENTS).message


def test_missing_projects_are_read_across_line_breaks() -> None:
    output = (
        "Because b.x was not found\n   in the package registry and a was not found in the provided package locations"
    )
    assert missing_projects(output) == ("a", "b.x")


def test_each_warning_once_and_in_order() -> None:
    output = "Resolved 2 packages\nwarning: `a==1` is yanked\nwarning: b\nwarning: `a==1` is yanked\n"
    assert warnings_from_uv(output) == ("`a==1` is yanked", "b")


@given(st.text())
def test_whatever_uv_says_becomes_an_error_of_bounded_length(output: str) -> None:
    error = error_from_uv(output, requirements=REQUIREMENTS)
    assert len(error.message.splitlines()) <= 4 * (len(REQUIREMENTS) + 30)


def test_offline_it_is_the_store_that_lacks_something() -> None:
    error = error_from_uv(UNSATISFIABLE, requirements=REQUIREMENTS, offline=True)
    assert isinstance(error, ResolutionError)
    assert error.message.startswith("cannot meet kimage.py:7: pip_install: six>=99\n")
    assert error.hint == "run the command once without --offline: offline, klock knows only the packages in the store"


@pytest.mark.parametrize(
    ("output", "packages"),
    [
        ("error: [Errno 2] No such file or directory: 'x86_64-linux-gnu-gcc'", '["gcc", "libc6-dev", "python3-dev"]'),
        ("unable to execute 'gcc': No such file or directory", '["gcc", "libc6-dev", "python3-dev"]'),
        ("error: command 'aarch64-linux-gnu-g++' failed: No such file or directory", '["g++", "python3-dev"]'),
        ("../meson.build:1:0: ERROR: Unknown compiler(s): [['cc'], ['gcc']]", '["gcc", "libc6-dev", "python3-dev"]'),
        ("x.c:10:10: fatal error: Python.h: No such file or directory", '["python3-dev"]'),
        ("c/_cffi_backend.c:15:10: fatal error: ffi.h: No such file or directory", '["libffi-dev"]'),
        ("error: can't find Rust compiler", '["cargo"]'),
        ("Cargo, the Rust package manager, is not installed or is not on PATH.", '["cargo"]'),
        ("/bin/sh: 1: pkg-config: not found", '["pkg-config"]'),
        ("Error: pg_config executable not found.", '["gcc", "libc6-dev", "libpq-dev", "python3-dev"]'),
    ],
)
def test_what_a_build_lacks_is_named_by_the_package_that_has_it(output: str, packages: str) -> None:
    assert f"install what the build needs (apt_install({packages}) on Debian and Ubuntu)" in hint_for_build(output, "x")


@pytest.mark.parametrize("output", ["", "fatal error: mine.h: No such file", "No such file or directory: 'README.md'"])
def test_of_what_nobody_knows_no_package_is_named(output: str) -> None:
    assert "(compilers, libraries)" in hint_for_build(output, "x")
