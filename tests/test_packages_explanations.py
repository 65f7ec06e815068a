"""What uv says when it fails, as klock's errors: which requirement, from which line, why, and what to do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.errors import FetchError, KlockError, RequirementError, ResolutionError
from klock.packages.explanations import error_from_uv, missing_projects, warnings_from_uv

REQUIREMENTS = [
    ("six", "six>=99", "kimage.py:7: pip_install"),
    ("ray", "ray[data]", "kimage.py:8: pip_install"),
    ("zope-interface", "zope.interface", "requirements.txt:3"),
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
UNREADABLE = "error: Couldn't parse requirement in `pyproject.toml`: six>>1\n"


@pytest.mark.parametrize(
    ("output", "kind", "message", "hint"),
    [
        (
            UNSATISFIABLE,
            ResolutionError,
            "cannot meet kimage.py:7: pip_install: six>=99\nBecause only six<=1.17.0 is available and this-image "
            "depends on six>=99, we can conclude that your requirements are unsatisfiable.",
            "loosen one of the requirements named above; all pip steps of an image are resolved together",
        ),
        (
            REFUSED,
            FetchError,
            "an index refuses access: Because six was not found in the package registry and this-image depends on six, "
            "we can conclude that [...]\nhint: An index URL (http://h/simple/) could not be queried due to a lack of "
            "valid authentication credentials (401 Unauthorized)",
            "give user name and password by netrc, in UV_INDEX_<NAME>_USERNAME and _PASSWORD, or in the index URL",
        ),
        (
            UNREACHABLE,
            FetchError,
            "an index cannot be read: Request failed after 3 retries in 9.2s\n"
            "Failed to fetch: https://h.example/simple/six/\ndns error",
            "check the network and the index URLs; --offline locks with what the store has",
        ),
        (
            BUILD_FAILS,
            ResolutionError,
            "kimage.py:8: pip_install: ray[data]: cannot fetch or build its source: Failed to build `ray==2.0`\n"
            "The build backend returned an error\n"
            "Call to `setuptools.build_meta.build_wheel` failed (exit status: 1)\n[stderr]\n"
            "error: gcc: No such file, six is fine",
            "install its compilers and libraries in an earlier step: klock builds the source to read its metadata",
        ),
        (
            NO_GIT,
            ResolutionError,
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
    ],
    ids=["unsatisfiable", "refused", "unreachable", "build fails", "no git", "unreadable", "nothing said"],
)
def test_an_error_names_the_requirement_its_line_and_the_reason(
    output: str, kind: type[KlockError], message: str, hint: str | None
) -> None:
    error = error_from_uv(output, requirements=REQUIREMENTS)
    assert (type(error), error.message) == (kind, message)
    if hint is not None:
        assert error.hint == hint


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
    assert error.hint == "klock is offline and knows only what the store has: run the command once without --offline"
