"""Credentials come from docker's config file and its helper programs, and are never shown."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.errors import FetchError
from klock.oci.authentication import Challenge, parse_challenges
from klock.oci.credentials import Credentials, DockerConfig, podman_logins

USER = Credentials(username="user", password="pa:ss")
AUTH = base64.b64encode(b"user:pa:ss").decode()


def config(content: dict[str, Any]) -> DockerConfig:
    return DockerConfig(content, path=Path("config.json"))


FOUND: dict[str, tuple[dict[str, Any], str, Credentials | None]] = {
    "by the registry's name": ({"auths": {"ghcr.io": {"auth": AUTH}}}, "ghcr.io", USER),
    "by name and port": ({"auths": {"host:5000": {"auth": AUTH}}}, "host:5000", USER),
    "not for another port": ({"auths": {"host:5000": {"auth": AUTH}}}, "host:5001", None),
    "by an old client's URL": ({"auths": {"https://ghcr.io/v1/": {"auth": AUTH}}}, "ghcr.io", USER),
    "Docker Hub by its own key": ({"auths": {"https://index.docker.io/v1/": {"auth": AUTH}}}, "docker.io", USER),
    "user and password apart": (
        {"auths": {"ghcr.io": {"username": "user", "password": "pa:ss"}}},
        "ghcr.io",
        USER,
    ),
    "an identity token": (
        {"auths": {"r.azurecr.io": {"identitytoken": "T"}}},
        "r.azurecr.io",
        Credentials(identity_token="T"),
    ),
    "none for a registry without an entry": ({"auths": {"ghcr.io": {"auth": AUTH}}}, "quay.io", None),
    "none for an empty entry": ({"auths": {"ghcr.io": {}}}, "ghcr.io", None),
    "none in an empty file": ({}, "ghcr.io", None),
}


@pytest.mark.parametrize(("content", "registry", "expected"), FOUND.values(), ids=FOUND.keys())
def test_found(content: dict[str, Any], registry: str, expected: Credentials | None) -> None:
    assert config(content).find(registry) == expected


BY_REPOSITORY: dict[str, tuple[str, str, str | None]] = {
    "one of the namespace": ("quay.io", "team/tool", "team"),
    "one of the repository itself": ("quay.io", "team/own", "own"),
    "not of a name that begins alike": ("quay.io", "teams/tool", "all"),
    "that of the whole registry": ("quay.io", "else/tool", "all"),
    "a namespace of Docker Hub": ("docker.io", "team/tool", "hub-team"),
    "Docker Hub": ("docker.io", "library/python", "hub"),
    "not of another registry": ("ghcr.io", "team/tool", None),
    "only a namespace, and another one is asked": ("r.example", "b/tool", None),
}


@pytest.mark.parametrize("case", BY_REPOSITORY)
def test_podman_s_logins_may_be_for_some_repositories(case: str) -> None:
    registry, repository, username = BY_REPOSITORY[case]
    keys = {
        "https://index.docker.io/v1/": "hub",
        "docker.io/team": "hub-team",
        "quay.io": "all",
        "quay.io/team": "team",
        "quay.io/team/own/": "own",
        "r.example/a": "a",
    }
    found = config({"auths": {key: {"username": name, "password": "x"} for key, name in keys.items()}})
    credentials = found.find(registry, repository)
    assert (credentials.username if credentials else None) == username


def install_helper(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\nread -r server\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


ANSWER = """[ "$1" = get ] && printf '{"ServerURL":"%s","Username":"user","Secret":"pa:ss"}' "$server" """


def test_a_helper_of_one_registry_is_asked_before_all_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_helper(tmp_path, "one", ANSWER, monkeypatch)
    content = {"credHelpers": {"ghcr.io": "one"}, "credsStore": "absent", "auths": {"ghcr.io": {"username": "other"}}}

    assert config(content).find("ghcr.io") == USER


def test_the_common_store_is_asked_with_docker_hubs_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f'[ "$server" = https://index.docker.io/v1/ ] || exit 7\n{ANSWER}'
    install_helper(tmp_path, "common", script, monkeypatch)

    assert config({"credsStore": "common", "auths": {}}).find("docker.io") == USER


def test_a_token_user_means_an_identity_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_helper(tmp_path, "azure", """printf '{"Username":"<token>","Secret":"T"}'""", monkeypatch)

    assert config({"credsStore": "azure"}).find("r.azurecr.io") == Credentials(identity_token="T")


def test_a_store_without_the_registry_leaves_it_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_helper(tmp_path, "empty", "echo 'credentials not found in native keychain'; exit 1", monkeypatch)

    assert config({"credsStore": "empty", "auths": {"ghcr.io": {"auth": AUTH}}}).find("ghcr.io") == USER


FAILS = {
    "a helper that is not there": (
        {"credsStore": "absent"},
        "config.json asks for the credential helper docker-credential-absent, which is not installed",
    ),
    "a helper's name that is a path": (
        {"credHelpers": {"ghcr.io": "../x"}},
        "config.json: '../x' is not the name of a credential helper",
    ),
    "an auth that is not base64": (
        {"auths": {"ghcr.io": {"auth": "s e c r e t"}}},
        "config.json: the auth of 'ghcr.io' is not base64 of user:password",
    ),
}


@pytest.mark.parametrize(("content", "message"), FAILS.values(), ids=FAILS.keys())
def test_fails(content: dict[str, Any], message: str) -> None:
    with pytest.raises(FetchError) as error:
        config(content).find("ghcr.io")
    assert error.value.message == message


def test_what_a_failing_helper_prints_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_helper(tmp_path, "broken", "echo s3cret; echo s3cret >&2; exit 3", monkeypatch)
    with pytest.raises(FetchError) as error:
        config({"credsStore": "broken"}).find("ghcr.io")
    assert error.value.message == "the credential helper docker-credential-broken failed with status 3"


def test_credentials_do_not_show_themselves() -> None:
    assert repr(Credentials(username="user", password="pa", identity_token="T")) == "Credentials()"


def test_the_file_is_looked_for_where_docker_does(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"ghcr.io": {"auth": AUTH}}}))

    assert DockerConfig.load({"DOCKER_CONFIG": str(tmp_path)}).find("ghcr.io") == USER
    assert DockerConfig.load({"DOCKER_CONFIG": str(tmp_path / "absent")}).find("ghcr.io") is None


@pytest.mark.parametrize("variable", ["REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"])
def test_what_docker_has_not_is_looked_for_where_podman_keeps_it(variable: str, tmp_path: Path) -> None:
    place = tmp_path / "containers/auth.json"
    place.parent.mkdir()
    entry = {"username": "podman", "password": "x"}
    place.write_text(json.dumps({"auths": {"ghcr.io": entry, "quay.io": entry}}))
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"ghcr.io": {"auth": AUTH}}}))
    named = str(place if variable == "REGISTRY_AUTH_FILE" else tmp_path)
    logins = DockerConfig.load({"DOCKER_CONFIG": str(tmp_path), variable: named})
    assert logins.find("ghcr.io") == USER
    assert logins.find("quay.io") == Credentials(username="podman", password="x")
    assert logins.find("r.example") is None
    place.unlink()
    place.mkdir()
    assert logins.find("quay.io") is None, "it cannot be read, so it has none"


def test_without_a_session_podman_keeps_logins_in_run() -> None:
    """As for root, and in containers."""
    assert podman_logins({"XDG_CONFIG_HOME": "/c"}) == [
        Path(f"/run/containers/{os.getuid()}/auth.json"),
        Path("/c/containers/auth.json"),
    ]


def test_a_file_that_is_not_json_is_named_and_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"auths": s3cret')
    with pytest.raises(FetchError) as error:
        DockerConfig.load({"DOCKER_CONFIG": str(tmp_path)})
    assert error.value.message == f"cannot read the logins in {tmp_path}/config.json: JSONDecodeError"


CHALLENGES = {
    "Docker Hub's": (
        ['Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull"'],
        [
            Challenge(
                scheme="bearer",
                parameters=(
                    ("realm", "https://auth.docker.io/token"),
                    ("service", "registry.docker.io"),
                    ("scope", "repository:a/b:pull"),
                ),
            )
        ],
    ),
    "a plain Basic": (['Basic realm="x"'], [Challenge(scheme="basic", parameters=(("realm", "x"),))]),
    "a scheme alone": (["Negotiate"], [Challenge(scheme="negotiate")]),
    "two in one header": (
        ['Basic realm="a, b", Bearer realm=c'],
        [
            Challenge(scheme="basic", parameters=(("realm", "a, b"),)),
            Challenge(scheme="bearer", parameters=(("realm", "c"),)),
        ],
    ),
    "a scheme alone before another": (
        ['Negotiate, Basic realm="x"'],
        [Challenge(scheme="negotiate"), Challenge(scheme="basic", parameters=(("realm", "x"),))],
    ),
    "two headers": (
        ["A x=1", "B y=2"],
        [
            Challenge(scheme="a", parameters=(("x", "1"),)),
            Challenge(scheme="b", parameters=(("y", "2"),)),
        ],
    ),
    "quoted quotes": ([r'A x="say \"hi\""'], [Challenge(scheme="a", parameters=(("x", 'say "hi"'),))]),
    "nothing": ([""], []),
}


@pytest.mark.parametrize(("headers", "expected"), CHALLENGES.values(), ids=CHALLENGES.keys())
def test_challenges(headers: list[str], expected: list[Challenge]) -> None:
    assert parse_challenges(headers) == expected


TOKEN = st.text("abcXYZ019-_.", min_size=1, max_size=8)


@given(st.lists(st.tuples(TOKEN, st.dictionaries(TOKEN.map(str.lower), st.text(max_size=20), max_size=3)), max_size=4))
def test_a_written_challenge_is_read_back(challenges: list[tuple[str, dict[str, str]]]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = ", ".join(f"{s} " + ", ".join(f"{n}={quoted(v)}" for n, v in p.items()) for s, p in challenges)
    assert parse_challenges([header]) == [
        Challenge(scheme=scheme.lower(), parameters=tuple(parameters.items())) for scheme, parameters in challenges
    ]


@given(st.text(max_size=60))
def test_any_header_is_read_to_an_end(header: str) -> None:
    parse_challenges([header])
