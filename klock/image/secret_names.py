"""What looks like a credential: by the name of its variable, by its shape, by its place in a URL."""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "ASSIGNMENT",
    "AUTHORIZATION",
    "QUERY",
    "TOKEN",
    "USERINFO",
    "is_host_name",
    "is_secret",
    "is_secret_name",
    "is_user_name",
    "may_be_secret",
]

_SECRET_ENDINGS: Final = tuple(
    set(ending.split("_"))
    for ending in [
        "TOKEN",
        "SECRET",
        "PASSWORD",
        "PASSWD",
        "PASS",
        "PASSPHRASE",
        "CREDENTIAL",
        "CREDENTIALS",
        "APIKEY",
        "PAT",
        "MYSQL_PWD",
        "API_KEY",
        "ACCESS_KEY",
        "SECRET_KEY",
        "PRIVATE_KEY",
        "AUTH_KEY",
        "ENCRYPTION_KEY",
    ]
)
# Fingerprints of public keys are what a Dockerfile verifies downloads with: `ENV GPG_KEY`, `NGINX_GPGKEY`.
_OTHER_KEYS: Final = re.compile(r"(PUBLIC|PUB|GPG|PGP|PRIMARY|FOREIGN|SORT|PARTITION|CACHE|SSH_HOST)_?KEY")
_RANDOM: Final = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9+/=_.-]{16,}")
_USER_WORDS: Final = {"USER", "USERNAME", "LOGIN", "ACCOUNT"}
_HOST_NAMES: Final = frozenset(
    [
        "DISPLAY",
        "EDITOR",
        "HOME",
        "HOSTNAME",
        "LANG",
        "LANGUAGE",
        "LOGNAME",
        "MAIL",
        "OLDPWD",
        "PATH",
        "PWD",
        "SHELL",
        "SHLVL",
        "TERM",
        "TMPDIR",
        "USER",
        "USERNAME",
        "VIRTUAL_ENV",
        "_",
    ]
)
_HOST_PREFIXES: Final = ("KLOCK_", "LC_", "PYTHON", "PYTEST_", "XDG_")

# No scheme is as long as 32 characters; without the bound a long word would be searched from each of its letters on.
USERINFO: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,31})://(?P<userinfo>[^\s/?#]*)@")
"""The user and password of a URL (RFC 3986, 3.2.1): all up to the last `@` of the authority."""

QUERY: Final = re.compile(
    r"[?&](?:[\w-]*(?:token|secret|password|passwd|api[-_]?key|signature|credential)|sig|auth)=(?P<value>[^&\s#'\"]+)",
    re.IGNORECASE,
)
AUTHORIZATION: Final = re.compile(r"\bAuthorization:\s*(?:Bearer|Basic|token)\s+(?P<value>[^\s'\"]+)", re.IGNORECASE)
ASSIGNMENT: Final = re.compile(
    r"(?<![\w$-])(?P<name>[A-Z][A-Z0-9_]*)=(?P<quote>['\"]?)(?P<value>[^\s'\";&|]+)(?P=quote)"
)

TOKEN: Final = re.compile(
    r"(?<![A-Za-z0-9])(?P<value>"
    r"gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}"
    r"|hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|npm_[A-Za-z0-9]{30,}|pypi-AgEI[\w-]{20,}"
    r"|AKIA[0-9A-Z]{16}|AIza[\w-]{35}|xox[abprs]-[\w-]{10,}"
    # Only where a word begins: a long word would be searched from each of its parts on.
    r"|(?<![\w-])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r")(?![A-Za-z0-9])"
)
"""Tokens that say what they are: GitHub, GitLab, Hugging Face, OpenAI, npm, PyPI, AWS, Google, Slack, JWT, PEM keys."""

_HARMLESS: Final = re.compile(
    r"\$\w+|\$\{[^}]*\}|\$\(.*|<[^>]*>|/(?:var/)?run/secrets/\S*|true|false|none|null|[\d.]+", re.IGNORECASE
)


def is_secret_name(name: str) -> bool:
    """`HF_TOKEN`, `REGISTRY_PASS`, `OPENAI_API_KEY`; not `TOKENIZERS_PARALLELISM`, `MAX_TOKENS`, `PUBLIC_KEY`."""
    words = name.upper().split("_")
    return any(set(words[-len(ending) :]) == ending for ending in _SECRET_ENDINGS)


def is_secret(name: str, value: str) -> bool:
    """Whether a variable holds a credential: by its name, or as a key whose value looks like one (`KAGGLE_KEY`)."""
    return is_secret_name(name) or (
        name.upper().endswith("KEY") and not _OTHER_KEYS.search(name.upper()) and _RANDOM.fullmatch(value) is not None
    )


def is_user_name(name: str) -> bool:
    return not is_host_name(name) and not _USER_WORDS.isdisjoint(name.upper().split("_"))


def is_host_name(name: str) -> bool:
    """Variables of the host itself: that a credential equals one of them is chance."""
    return name in _HOST_NAMES or name.startswith(_HOST_PREFIXES)


def may_be_secret(value: str) -> bool:
    """False for what is none in spite of its name: nothing, a number, `<pad>`, `$OTHER`, a secret's file."""
    return bool(value) and _HARMLESS.fullmatch(value) is None
