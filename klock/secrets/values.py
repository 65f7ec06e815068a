"""Whether a value can be a credential: the name PASSWORD does not make one of `true`, `$OTHER` or a secret's file."""

from __future__ import annotations

import re
from typing import Final

from klock.patterns import regex
from klock.secrets.vocabulary import NO_CREDENTIALS, variable_name, words_of

__all__ = ["SHORTEST_SEARCHED", "is_host_name", "is_secret", "is_user_name", "looks_random", "may_be_secret"]

SHORTEST_SEARCHED: Final = 6
"""Characters. Shorter values would be found in files and output by chance."""

_HARMLESS: Final = regex(
    # Numbers, switches, and the password of every Java keystore.
    r"[\d.]+|true|false|none|null|yes|no|on|off|enabled?|disabled?|changeit"
    # What stands for something else: `<pad>`, `{name}`, `%s`, `$(command)`, a file of a secret, a mask.
    r"|<[^>]*>|\[[A-Z]+\]|\{[\w.-]*\}|\{\{.*|%[sdrv]|\\*\$\(.*|\\*`.*|/(?:var/)?run/secrets/\S*|\*+|\.{2,}|x{3,}",
    re.IGNORECASE | re.DOTALL,
)
_REFERENCE: Final = regex(r"\\*\$(?:\w+|\{[^}]*\})")
# As text: most programs never need them.
_PATH: Final = (
    r"(?:~|\.{1,2})?/(?:etc|run|var|app|opt|srv|home|root|usr|mnt|tmp|data|secrets?|keys?|certs?|config|workspace)/[\w./@-]+"
    r"|(?:[~.]{0,2}/)?[\w./@-]+\.(?:asc|cer|crt|der|gpg|json|key|p12|pem|pfx|pub|sig|toml|txt|ya?ml)"
)
_RANDOM_KEY: Final = r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9+/=_.-]{16,}"
_FINGERPRINT: Final = r"(?:0x)?[0-9A-F]{8,40}"
_LETTERS_AND_DIGITS: Final = r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])\S{6,}"
_ORDINARY: Final = (
    # Versions, paths, URLs, and words of the field that end in a number.
    r"(?is)v?\d+(?:\.\d+)+[\w.+-]*|[~.]{0,2}/.*|[A-Za-z][\w+.-]*://.*"
    r"|(?:oauth|openid|saml|ldap|http|tls|ssl|sha|hs|rs|es|ps|ed|x|utf|base|hmac[-_]?sha|python|debian|ubuntu|cuda)-?\d+"
)

_USER_WORDS: Final = frozenset(["user", "username", "login", "account"])
_HOST: Final = "DISPLAY EDITOR HOME HOSTNAME LANG LANGUAGE LOGNAME MAIL OLDPWD PATH PWD SHELL SHLVL TERM TMPDIR USER"
_HOST_NAMES: Final = frozenset((*_HOST.split(), "USERNAME", "VIRTUAL_ENV", "_"))
_HOST_PREFIXES: Final = ("KLOCK_", "LC_", "PYTHON", "PYTEST_", "XDG_")


def may_be_secret(value: str) -> bool:
    """False for what is none in spite of its name: nothing, a number, `<pad>`, `$OTHER`, a secret's file."""
    if not value or _HARMLESS.fullmatch(value):
        return False
    # Of references alone, as in `$USER:$PASS`, nothing is left.
    return "$" not in value or re.search(r"\w", _REFERENCE.sub("", value)) is not None


def looks_random(value: str) -> bool:
    """Whether a value is more likely a credential than a word, a path or a version: letters and digits in one piece."""
    return re.fullmatch(_LETTERS_AND_DIGITS, value) is not None and re.fullmatch(_ORDINARY, value) is None


def is_secret(name: str, value: str) -> bool:
    """Whether a variable holds a credential: by its name, or as a key whose value looks like one (`KAGGLE_KEY`).

    `HF_TOKEN`, `REGISTRY_PASS`, `OPENAI_API_KEY`; not `TOKENIZERS_PARALLELISM`, `MAX_TOKENS`, `PUBLIC_KEY`. What is
    harmless whatever the name, `may_be_secret` tells.
    """
    entry = variable_name(name)
    if entry is None:
        return (
            name.endswith("KEY")
            and re.fullmatch(_RANDOM_KEY, value) is not None
            and re.fullmatch(_FINGERPRINT, value) is None
            and re.fullmatch(NO_CREDENTIALS, "_".join(words_of(name))) is None
        )
    if (entry.may_be_path or not entry.sure) and re.fullmatch(_PATH, value):
        return False
    return entry.sure or looks_random(value)


def is_user_name(name: str) -> bool:
    """Whether a variable of this name holds a user's name: `REGISTRY_USER`."""
    return not is_host_name(name) and not _USER_WORDS.isdisjoint(words_of(name))


def is_host_name(name: str) -> bool:
    """Variables of the host itself: that a credential equals one of them is chance."""
    return name in _HOST_NAMES or name.startswith(_HOST_PREFIXES)
