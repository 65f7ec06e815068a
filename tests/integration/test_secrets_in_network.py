"""Credentials that shell steps use in the network, and those they are given there: in no file and no word of klock's.

Every byte that klock wrote is searched: lockfile, stores, vault, temporary files, and all it said, errors included. For
the values as they are, and in the forms they take on their way (percent-encoding, base64, hex, JSON).
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_plus

import pytest

from tests.integration.container_engines import some_of
from tests.integration.unprivileged import Account
from tests.integration.upstream import ZONE, Laboratory, Project, Step, World, clients_layout, upstream_world
from tests.integration.upstream.credentials import API_TOKEN, PASSWORD, QUERY_TOKEN, USER

pytestmark = pytest.mark.integration

F: Final = f"https://files.{ZONE}"
ENV: Final = {
    "UPSTREAM_USER": USER,
    "UPSTREAM_PASSWORD": PASSWORD,
    "UPSTREAM_TOKEN": API_TOKEN,
    "UPSTREAM_QUERY_TOKEN": QUERY_TOKEN,
}
VARIABLES: Final = (
    ".set_env_vars({name: os.environ[name] for name in sorted(os.environ) if name.startswith('UPSTREAM_')})"
)
QUOTED: Final = (
    """$(python3 -c 'import os, urllib.parse as u; print(u.quote(os.environ["UPSTREAM_PASSWORD"], safe=""))')"""
)
ACCESS_TOKEN: Final = """python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])'"""
PRIVATE: Final = {"private_urls": [f"{F}/plain-token*"]}

USED: Final[dict[str, tuple[Step | str, ...]]] = {
    "a name and a password": (VARIABLES, f'curl -fsS -u "$UPSTREAM_USER:$UPSTREAM_PASSWORD" {F}/basic/one -o /a'),
    "a password in the command": (
        Step(
            f"""f"curl -fsS -u {USER}:{{os.environ['UPSTREAM_PASSWORD']}} {F}/basic/two -o /a\"""",
            is_source=True,
        ),
    ),
    "a password in the URL": (
        VARIABLES,
        f'curl -fsS "https://$UPSTREAM_USER:{QUOTED}@files.{ZONE}/basic/three" -o /a',
    ),
    "a password in ~/.netrc": (
        VARIABLES,
        "export HOME=/tmp/home; mkdir $HOME"
        f' && echo "machine files.{ZONE} login $UPSTREAM_USER password $UPSTREAM_PASSWORD" > $HOME/.netrc'
        f" && curl -fsS -n {F}/basic/four -o /a",
    ),
    "a bearer's token": (VARIABLES, f'curl -fsS -H "Authorization: Bearer $UPSTREAM_TOKEN" {F}/bearer/one -o /a'),
    "a token in the query": (
        VARIABLES,
        f'curl -fsS -G --data-urlencode "token=$UPSTREAM_QUERY_TOKEN" {F}/query/one -o /a',
    ),
    "a token in a header of its own": (VARIABLES, f'curl -fsS -H "X-Api-Key: $UPSTREAM_TOKEN" {F}/bytes/key/10 -o /a'),
    "a password in a form": (VARIABLES, f'curl -fsS --data-urlencode "p=$UPSTREAM_PASSWORD" {F}/count -o /dev/null'),
    "a session's cookie": (
        f"curl -fsS -c /tmp/jar {F}/cookie-login -o /dev/null && curl -fsS -b /tmp/jar {F}/cookie/one -o /a",
    ),
    "a signed redirect": (f"curl -fsSL {F}/signed-redirect/one -o /a", f"wget -q {F}/signed-redirect/two -O /b"),
    "an access token as JSON": (
        f"T=$(curl -fsS -d grant_type=x {F}/token | {ACCESS_TOKEN})"
        f' && curl -fsS -H "Authorization: Bearer $T" {F}/api/one -o /a',
    ),
    "a plain access token, marked": (
        Step(
            f'T=$(curl -fsS -d x {F}/plain-token) && curl -fsS -H "Authorization: Bearer $T" {F}/api/two -o /a', PRIVATE
        ),
    ),
}

FAILS: Final[dict[str, tuple[tuple[Step | str, ...], str]]] = {
    "it is told what the client sent": (
        (VARIABLES, f'curl -sv -u "$UPSTREAM_USER:$UPSTREAM_PASSWORD" {F}/basic/one -o /dev/null; false'),
        "failed with status 1",
    ),
    "it is told the URL": (
        (VARIABLES, f'curl -sv "{F}/query/one?token={QUOTED.replace("PASSWORD", "QUERY_TOKEN")}" -o /dev/null; false'),
        "failed with status 1",
    ),
    "it is told where a redirect led": ((f"curl -svL {F}/signed-redirect/three -o /dev/null; false",), "status 1"),
    "it is told a cookie": (
        (f"curl -sv -c /tmp/jar {F}/cookie-login; curl -sv -b /tmp/jar {F}/cookie/x; false",),
        "status 1",
    ),
    "it is told an access token": (
        (
            f"T=$(curl -sS -d x {F}/token | {ACCESS_TOKEN}); echo got $T;"
            f' curl -sv -H "Authorization: Bearer $T" {F}/api/x; false',
        ),
        "status 1",
    ),
    "a refused URL has a token": (
        (VARIABLES, f'curl -sS "{F}/status/500?token={QUOTED.replace("PASSWORD", "QUERY_TOKEN")}" || true'),
        f"{F}/status/500",
    ),
    "a refused URL has a password": (
        (VARIABLES, f'curl -sS "https://$UPSTREAM_USER:{QUOTED}@closed.{ZONE}/x" || true'),
        f"closed.{ZONE}",
    ),
    "the answer has the password in it": (
        (VARIABLES, f'curl -fsS --data-urlencode "p=$UPSTREAM_PASSWORD" {F}/form -o /dev/null || true'),
        f"POST {F}/form",
    ),
    "a plain access token is not marked": (
        (f'T=$(curl -fsS -d x {F}/plain-token); curl -fsS -H "Authorization: Bearer $T" {F}/api/three -o /a || true',),
        f"POST {F}/plain-token",
    ),
    "the step writes an access token down": (
        (f"curl -fsS -d grant_type=x {F}/token -o /token.json",),
        "/token.json",
    ),
    "the step writes a signed URL down": (
        (f"curl -sS -o /dev/null -w '%{{redirect_url}}' {F}/signed-redirect/four > /url",),
        "/url",
    ),
    "the step writes a password down as Basic has it": (
        (VARIABLES, 'printf "me:%s" "$UPSTREAM_PASSWORD" | base64 > /auth'),
        "/auth",
    ),
    "the step writes a token down in base64, after two bytes": (
        (VARIABLES, 'printf "a:%s" "$UPSTREAM_TOKEN" | base64 > /auth'),
        "/auth",
    ),
    "the step writes a cookie down": ((f"curl -fsS -c /jar {F}/cookie-login -o /dev/null",), "/jar"),
}


@pytest.fixture(scope="module")
def upstream(root: Account, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    assert root.uid == 0
    with upstream_world(tmp_path_factory.mktemp("upstream") / "world") as world:
        yield world


@pytest.fixture(scope="module")
def temporary(unprivileged: Account) -> Path:
    """Where the account's processes put temporary files."""
    return unprivileged.make_folder("temporary")


@pytest.fixture(scope="module")
def laboratory(unprivileged: Account, upstream: World, temporary: Path) -> Laboratory:
    """With stores and a vault that have the base already: its thousands of files are nobody's secret."""
    laboratory = Laboratory(account=unprivileged, upstream=upstream, layout=clients_layout())
    project = laboratory.project("true")
    project.lock()
    project.replay()
    project.klock_online("vault", "push", vault_of(laboratory))
    return laboratory


@pytest.fixture
def before(laboratory: Laboratory) -> frozenset[File]:
    """What was there when the test began. The tests before it have searched that."""
    return frozenset(everything(laboratory))


@pytest.mark.parametrize("with_variables", [True, False])
def test_a_secret_that_is_used_leaves_no_trace(
    *,
    with_variables: bool,
    laboratory: Laboratory,
    before: frozenset[File],
    upstream: World,
    temporary: Path,
) -> None:
    env = ENV | {"TMPDIR": str(temporary)}
    steps = [step for case in USED.values() if (VARIABLES in case) is with_variables for step in case]
    variables = [VARIABLES] if with_variables else []
    project = laboratory.project(*variables, *(step for step in steps if step != VARIABLES))
    project.lock(env=env)
    project.replay(env=env)
    project.klock_online("vault", "push", vault_of(laboratory), env=env)
    project.klock("check", "--env", env=env)
    assert traces(secrets_of(upstream), everything(laboratory), before, project) == []


IN_SHORT = ("it is told what the client sent", "it is told a cookie", "a refused URL has a token")


@pytest.mark.parametrize("name", some_of(FAILS, *IN_SHORT))
def test_an_error_says_nothing_when(
    *,
    name: str,
    laboratory: Laboratory,
    before: frozenset[File],
    upstream: World,
    temporary: Path,
) -> None:
    steps, message = FAILS[name]
    project = laboratory.project(*steps)
    done = project.lock(env=ENV | {"TMPDIR": str(temporary)}, status=2, verbose=False)
    assert message in done.stderr
    assert not project.lockfile.exists()
    assert traces(secrets_of(upstream), everything(laboratory), before, project) == []


def test_the_way_out_is_named(laboratory: Laboratory) -> None:
    steps, _ = FAILS["a plain access token is not marked"]
    assert "private_urls" in laboratory.project(*steps).lock(status=2).stderr


def test_what_the_process_knows_is_masked_while_it_speaks(
    laboratory: Laboratory, upstream: World, before: frozenset[File]
) -> None:
    command = (
        f'curl -sv -u "$UPSTREAM_USER:$UPSTREAM_PASSWORD" {F}/basic/loud -o /a;'
        f' curl -sv -H "Authorization: Bearer $UPSTREAM_TOKEN" {F}/bearer/loud -o /b'
    )
    project = laboratory.project(VARIABLES, command)
    done = project.lock(env=ENV)
    assert "authorization: basic ***" in done.stderr.lower()
    assert traces([PASSWORD, API_TOKEN], everything(laboratory), before, project) == []


def test_what_a_server_gives_away_is_masked_while_a_program_speaks(
    laboratory: Laboratory, upstream: World, before: frozenset[File]
) -> None:
    project = laboratory.project(
        f"curl -svL {F}/signed-redirect/loud -o /a; curl -sv -c /tmp/jar {F}/cookie-login -o /dev/null;"
        f" curl -sv -b /tmp/jar {F}/cookie/loud -o /b; wget -O /c {F}/signed-redirect/louder"
    )
    done = project.lock()
    assert "signature=***" in done.stderr.lower()
    assert "set-cookie: ***" in done.stderr.lower()
    assert traces(secrets_of(upstream), everything(laboratory), before, project) == []


def test_a_private_answer_is_a_stand_in_in_the_lockfile(laboratory: Laboratory) -> None:
    project = laboratory.project(*USED["a plain access token, marked"])
    project.lock()
    (step,) = project.shell_steps
    token, answer = sorted(step["requests"], key=lambda request: "/api/" in request["url"])
    assert token["private"] is True
    assert answer["authorized"] is True if "authorized" in answer else True
    assert step["private-urls"] == PRIVATE["private_urls"]


def test_the_search_finds_what_it_looks_for(upstream: World, tmp_path: Path) -> None:
    """Each form in which a value could stand in a file, once."""
    files = []
    for number, form in enumerate(forms(PASSWORD)):
        (tmp_path / str(number)).write_bytes(b"\0" * 100_000 + form + b"\n")
        files.append(File.at(tmp_path / str(number)))
    found = traces([PASSWORD], files, frozenset(), None)
    assert len(found) == len(forms(PASSWORD)) > 8
    (tmp_path / "0").write_bytes(b"harmless")
    assert traces([PASSWORD], [File.at(tmp_path / "0")], frozenset(files), None) == []
    (tmp_path / "0").write_bytes(PASSWORD.encode())
    assert len(traces([PASSWORD], [File.at(tmp_path / "0")], frozenset(files), None)) == 1


def secrets_of(upstream: World) -> list[str]:
    """What the steps brought along and what they were given."""
    return [PASSWORD, API_TOKEN, QUERY_TOKEN, *upstream.issued()]


@dataclass(frozen=True, slots=True)
class File:
    """A file or symlink as it was at one time: whoever writes to it makes it another one."""

    path: Path
    inode: int
    size: int
    changed: int

    @classmethod
    def at(cls, path: Path) -> File:
        status = path.lstat()
        return cls(path, status.st_ino, status.st_size, status.st_ctime_ns)


def everything(laboratory: Laboratory) -> list[File]:
    """Every file and symlink of the account: stores, projects, the vault, temporary files."""
    return [
        File.at(Path(folder, name))
        for folder, folders, names in os.walk(laboratory.account.folder)
        for name in (*names, *(each for each in folders if Path(folder, each).is_symlink()))
    ]


def vault_of(laboratory: Laboratory) -> Path:
    """One for all tests: what is in it by hash is written once."""
    return laboratory.recording_store.with_name("vault")


def forms(value: str) -> list[bytes]:
    """A value as it is, and as HTTP, JSON and base64 write it, alone or after a user name."""
    raw = value.encode()
    written = {raw, quote(value, safe="").encode(), quote_plus(value, safe="/").encode(), raw.hex().encode()}
    written |= {quote(value, safe="").lower().encode(), json.dumps(value)[1:-1].replace("/", "\\/").encode()}
    for before in (b"", f"{USER}:".encode(), b"x", b"xx"):
        # Only what does not depend on the neighbours: base64 has four characters for three bytes.
        skipped = -(-len(before) // 3) * 4
        encoded = base64.b64encode(before + raw)[skipped : (len(before) + len(raw)) // 3 * 4]
        written |= {encoded, encoded.replace(b"+", b"-").replace(b"/", b"_")}
    return sorted(written)


def traces(
    secrets: Sequence[str], files: Sequence[File], before: frozenset[File], project: Project | None
) -> list[str]:
    """Where any form of a secret stands: in a file that is new, its name, a symlink's text, or what klock said."""
    wanted = {form: secret for secret in secrets for form in forms(secret)}
    found: list[str] = []

    def search(where: str, content: bytes) -> None:
        found.extend(f"{where}: {secret} as {form!r}" for form, secret in wanted.items() if form in content)

    for path in (file.path for file in files if file not in before):
        search(f"the name {path}", str(path).encode())
        search(str(path), str(path.readlink()).encode() if path.is_symlink() else path.read_bytes())
    for said in project.said if project else ():
        search("what klock said", said.encode())
    return found
