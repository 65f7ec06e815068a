"""How a registry is told who asks: Basic (RFC 7617) or Bearer tokens (distribution-spec, token authentication).

A token is asked for where the registry's challenge says, with credentials that belong to that registry; they are not
sent to a plain http address unless the registry itself is one.
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode, urlsplit

from klock.connections import refuse_redirect
from klock.documents import read_json
from klock.errors import FetchError
from klock.fetching.transport import Transport
from klock.oci.credentials import Credentials, DockerConfig
from klock.proxies import is_loopback
from klock.values import dataclass

__all__ = ["Authentication", "Challenge", "parse_challenges", "unauthorised"]

_CLIENT_ID: Final = "klock"
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER: Final = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))\s*')
_SCHEME: Final = re.compile(rf"\s*({_TOKEN})(?:\s+|$|(?=,))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One way to authenticate that a server offers; `scheme` in lower case."""

    scheme: str
    parameters: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str | None:
        return dict(self.parameters).get(name)


def parse_challenges(headers: Sequence[str]) -> list[Challenge]:
    """Reads WWW-Authenticate headers (RFC 9110, 11.6.1), each with one or more challenges, up to what is unreadable."""
    challenges = []
    for header in headers:
        rest = header
        while match := _SCHEME.match(rest):
            scheme, rest = match[1].lower(), rest[match.end() :]
            parameters = []
            while parameter := _PARAMETER.match(rest):
                quoted, plain = parameter[2], parameter[3]
                value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
                parameters.append((parameter[1].lower(), value))
                rest = rest[parameter.end() :].removeprefix(",")
            challenges.append(Challenge(scheme=scheme, parameters=tuple(parameters)))
            rest = rest.lstrip(" ,")
    return challenges


class Authentication:
    """The Authorization header for one repository, found out by the registry's first refusal and kept from then on.

    `name` is the registry whose credentials are used; `secure`: it is asked over https.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        name: str,
        repository: str,
        secure: bool,
        config: DockerConfig | None = None,
        actions: str = "pull",
        also: Sequence[str] = (),
    ) -> None:
        """`actions` are those that tokens are asked for, such as `pull,push`; `also`: repositories of the same registry
        that are read besides."""
        self._transport = transport
        self._name = name
        self._repository = repository
        self._scopes = [f"repository:{repository}:{actions}", *(f"repository:{other}:pull" for other in also)]
        self._writes = "push" in actions.split(",")
        self._secure = secure
        self._config = config
        self._lock = threading.Lock()
        self._header: str | None = None
        self._credentials: Credentials | None = None
        self._credentials_read = False

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": self._header} if self._header else {}

    @property
    def has_credentials(self) -> bool:
        return self._find_credentials() is not None

    def answer(self, challenges: Sequence[str], *, refused: str | None) -> bool:
        """Makes a new header after a refusal (status 401) of the header `refused`; False if there is nothing to try."""
        with self._lock:
            if self._header != refused:
                # Another thread has a new one already.
                return True
            offers = {challenge.scheme: challenge for challenge in reversed(parse_challenges(challenges))}
            header = None
            if "bearer" in offers:
                header = "Bearer " + self._fetch_token(offers["bearer"])
            elif "basic" in offers and (credentials := self._find_credentials()):
                header = _basic(credentials)
            if header is None or header == refused:
                return False
            self._header = header
            return True

    def _find_credentials(self) -> Credentials | None:
        if not self._credentials_read:
            self._credentials = (self._config or DockerConfig.load()).find(self._name, self._repository)
            self._credentials_read = True
        return self._credentials

    def _fetch_token(self, challenge: Challenge) -> str:
        realm = challenge.get("realm") or ""
        try:
            parts = urlsplit(realm)
            host = parts.hostname or ""
        except ValueError:
            parts, host = urlsplit(""), ""
        if parts.scheme != "https" and not (parts.scheme == "http" and (not self._secure or is_loopback(host))):
            raise FetchError(f"{self._name} sends klock for a token to {realm[:200]!r}, which is not an https address")
        refuse_redirect(urlsplit(f"//{self._name}").hostname or "", realm)
        service = {"service": s} if (s := challenge.get("service")) else {}
        # A challenge names what the refused request needs; of several repositories the rest is ours to say.
        scopes = self._scopes if self._writes else [challenge.get("scope") or self._scopes[0]]
        query = [*service.items(), *(("scope", scope) for scope in scopes)]
        credentials = self._find_credentials()
        if credentials and credentials.identity_token:
            form = [*service.items(), ("scope", " ".join(scopes))]
            form += [("grant_type", "refresh_token"), ("client_id", _CLIENT_ID)]
            form.append(("refresh_token", credentials.identity_token))
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            response = self._transport.get(realm, headers, method="POST", body=urlencode(form))
        else:
            separator = "&" if parts.query else "?"
            headers = {"Authorization": _basic(credentials)} if credentials else {}
            response = self._transport.get(f"{realm}{separator}{urlencode(query)}", headers)
        if response.status in (401, 403):
            raise unauthorised(self._name, has_credentials=credentials is not None, writes=self._writes)
        try:
            answer = read_json(response.body)
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if response.status != 200 or not isinstance(token, str):
            raise FetchError(f"{host} gave no token for {self._name} (status {response.status})")
        return token


def unauthorised(registry: str, *, has_credentials: bool, what: str | None = None, writes: bool = False) -> FetchError:
    """The error for a refusal, with the way in: log in, or log in as someone else. `writes`: to push was refused."""
    subject = f"{what}: " if what else ""
    verb = "push" if writes else "pull"
    if has_credentials:
        return FetchError(
            f"{subject}{registry} does not accept the login that this machine has for this repository",
            hint=f"check that the account may {verb} it, and run `docker login {registry}` again",
        )
    return FetchError(
        f"{subject}{registry} wants credentials, or there is no such repository",
        hint=f"check the name; if it is private, run `docker login {registry}`",
    )


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
