"""References mean what docker means by them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.errors import ImageError
from klock.oci.reference import Reference

DIGEST = "sha256:" + "0123456789abcdef" * 4

MEANS = {
    "a bare name is an official image on Docker Hub": ("python", "docker.io/library/python:latest"),
    "a name with a tag": ("python:3.12-slim", "docker.io/library/python:3.12-slim"),
    "a user's image on Docker Hub": ("rayproject/ray:latest", "docker.io/rayproject/ray:latest"),
    "deeper names on Docker Hub": ("a/b/c", "docker.io/a/b/c:latest"),
    "Docker Hub written out": ("docker.io/python", "docker.io/library/python:latest"),
    "Docker Hub by its old name": ("index.docker.io/library/python:3", "docker.io/library/python:3"),
    "a registry with dots": ("ghcr.io/run-house/server:v3", "ghcr.io/run-house/server:v3"),
    "a registry with a port": ("localhost:5000/x", "localhost:5000/x:latest"),
    "localhost needs no port": ("localhost/x:1", "localhost/x:1"),
    "a port is not a tag": ("host:5000/x", "host:5000/x:latest"),
    "a registry in capitals, which no repository has": ("MyHost/x", "MyHost/x:latest"),
    "an IPv4 registry": ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c"),
    "an IPv6 registry": ("[::1]:5000/a:1", "[::1]:5000/a:1"),
    "a name that looks like a host stays a name without a slash": ("my.image:1", "docker.io/library/my.image:1"),
    "a digest": (f"x@{DIGEST}", f"docker.io/library/x@{DIGEST}"),
    "a tag and a digest: both are kept": (f"ghcr.io/a/x:1@{DIGEST}", f"ghcr.io/a/x:1@{DIGEST}"),
    "separators inside names": ("a__b/c-d.e---f", "docker.io/a__b/c-d.e---f:latest"),
    "NVIDIA's registry": ("nvcr.io/nvidia/pytorch:23.12-py3", "nvcr.io/nvidia/pytorch:23.12-py3"),
}


@pytest.mark.parametrize(("written", "meant"), MEANS.values(), ids=MEANS.keys())
def test_means(written: str, meant: str) -> None:
    reference = Reference.parse(written)
    assert str(reference) == meant
    assert Reference.parse(meant) == reference


USUAL_HINT = "write [REGISTRY/]REPOSITORY[:TAG][@sha256:DIGEST], such as python:3.12-slim"
REFUSED = {
    "nothing": ("", "it names no repository", USUAL_HINT),
    "a tag only": (":3.12", "it names no repository", USUAL_HINT),
    "a registry only": ("ghcr.io/", "it names no repository", USUAL_HINT),
    "capitals in the repository": ("Python:3.12", "the repository's name must be lower case", "write 'python:3.12'"),
    "a URL": ("https://ghcr.io/a/b:1", "it is not a URL", "leave the scheme out: 'ghcr.io/a/b:1'"),
    "a page": ("https://hub.docker.com/_/debian", "it is a page of Docker Hub", "write 'debian'"),
    "a page of tags": ("https://hub.docker.com/r/a/b/tags", "it is a page of Docker Hub", "write 'a/b'"),
    "skopeo's scheme": ("docker://python:3", "it is not a URL", "leave the scheme out: 'python:3'"),
    "a bare digest": ("a" * 64, "it is a bare digest", "write NAME@sha256:..."),
    "an empty tag": ("python:", "'' is not a tag", "a tag is 1 to 128 letters, digits, '_', '.' and '-'"),
    "a tag that begins with a dash": (
        "a:-b",
        "'-b' is not a tag",
        "a tag is 1 to 128 letters, digits, '_', '.' and '-'",
    ),
    "a tag that is too long": (
        "a:" + "b" * 129,
        f"'{'b' * 129}' is not a tag",
        "a tag is 1 to 128 letters, digits, '_', '.' and '-'",
    ),
    "a digest that is too short": (
        "a@sha256:123",
        "'sha256:123' is not a digest",
        "write NAME@sha256: and 64 lower-case hex digits",
    ),
    "another hash": ("a@sha512:12", "'sha512:12' is not a digest", "write NAME@sha256: and 64 lower-case hex digits"),
    "a space": ("a b", "'library/a b' is not a repository", USUAL_HINT),
    "an option for a shell": ("--help", "'library/--help' is not a repository", USUAL_HINT),
    "a way out of the path": ("../../etc", "'..' is not the name of a registry", USUAL_HINT),
    "an empty component": ("a//b", "'a//b' is not a repository", USUAL_HINT),
    "a trailing newline": ("python\n", "'library/python\\n' is not a repository", USUAL_HINT),
    "a name that is too long": ("a/" + "b" * 254, "the repository's name is longer than 255 characters", USUAL_HINT),
    "credentials": (
        "user:pass@ghcr.io/a",
        "'ghcr.io/a' is not a digest",
        "write NAME@sha256: and 64 lower-case hex digits",
    ),
}


@pytest.mark.parametrize(("written", "why", "hint"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(written: str, why: str, hint: str) -> None:
    with pytest.raises(ImageError) as error:
        Reference.parse(written)
    assert error.value.message == f"{written!r} is not an image reference: {why}"
    assert error.value.hint == hint


def test_the_digest_is_what_is_asked_for() -> None:
    assert Reference.parse(f"a:1@{DIGEST}").identifier == DIGEST
    assert Reference.parse("a:1").identifier == "1"
    assert Reference.parse("a").identifier == "latest"


@given(st.text(alphabet="aZ0._-:/@[]%\n ", max_size=40))
def test_any_text_is_refused_or_read_to_something_that_reads_the_same(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except ImageError:
        return
    assert Reference.parse(str(reference)) == reference
    assert reference.tag or reference.digest


@given(st.text(max_size=60))
def test_no_text_makes_it_fail_otherwise(text: str) -> None:
    try:
        Reference.parse(text)
    except ImageError as error:
        assert error.hint
