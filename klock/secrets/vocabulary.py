"""What a credential is, as data. All of klock goes by this table; docs/secrets.md shows it to users.

A name counts however it is written: `api_key`, `API_KEY`, `X-Api-Key` and `apiKey` are one name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from typing import Final

from klock.patterns import regex
from klock.values import dataclass

__all__ = [
    "NAMES",
    "NO_CREDENTIALS",
    "NO_OPTIONS",
    "PROGRAMS",
    "SCHEMES",
    "TOKEN",
    "TOKENS",
    "CredentialName",
    "Fit",
    "ProgramOption",
    "TokenForm",
    "credential_name",
    "variable_name",
    "words_of",
]


class Fit(Enum):
    """Which part of a name has to be a credential's word."""

    END = "ends with it"
    LAST = "its last word"
    WHOLE = "all of it"


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialName:
    """Names (`words`, lower case) of what holds a credential, as a query parameter, a header, a variable or an option.

    In a URL and in a header the name is proof enough. So it is elsewhere if it is `sure`; if not, the value has to look
    like a credential. `in_variables`: the fit for variables and options, where it is another one. `may_be_path`: the
    value is none if it is the path of a file. `examples` are such names as people write them.
    """

    words: str
    fit: Fit
    examples: tuple[str, ...]
    sure: bool = True
    in_variables: Fit | None = None
    may_be_path: bool = False


def _name(words: str, fit: Fit, *examples: str, in_variables: Fit | None = None, **how: bool) -> CredentialName:
    return CredentialName(words=words, fit=fit, examples=examples, in_variables=in_variables, **how)


NAMES: Final = (
    _name("token", Fit.END, "HF_TOKEN", "access_token", "X-Vault-Token", "authToken"),
    _name("secret", Fit.END, "CLIENT_SECRET", "secret"),
    _name("password", Fit.END, "PGPASSWORD", "password"),
    _name("passwd", Fit.END, "DB_PASSWD", "passwd"),
    _name("passphrase", Fit.END, "GPG_PASSPHRASE", "passphrase"),
    _name("pass", Fit.LAST, "REGISTRY_PASS", "pass"),
    _name("pwd", Fit.LAST, "MYSQL_PWD", "db-pwd", may_be_path=True),
    _name("pat", Fit.LAST, "GITHUB_PAT", "pat"),
    _name("api key", Fit.END, "OPENAI_API_KEY", "X-Api-Key", "apikey"),
    _name("access key", Fit.END, "access_key", "AWS_SECRET_ACCESS_KEY"),
    _name("access key id", Fit.END, "AWSAccessKeyId", "AWS_ACCESS_KEY_ID", "OSSAccessKeyId"),
    _name("secret key", Fit.END, "MINIO_SECRET_KEY", "secret_key"),
    _name("auth key", Fit.END, "TS_AUTHKEY", "X-Auth-Key"),
    _name("account key", Fit.END, "AccountKey", "AZURE_STORAGE_ACCOUNT_KEY"),
    _name("subscription key", Fit.END, "Ocp-Apim-Subscription-Key"),
    _name("private key", Fit.END, "SSH_PRIVATE_KEY", "private_key", may_be_path=True),
    _name("encryption key", Fit.END, "ENCRYPTION_KEY", may_be_path=True),
    _name("credential", Fit.END, "X-Amz-Credential", may_be_path=True),
    _name("credentials", Fit.END, "GOOGLE_CREDENTIALS", may_be_path=True),
    _name("jwt", Fit.LAST, "jwt", "VAULT_JWT", sure=False),
    _name("sas", Fit.LAST, "sas", "BLOB_SAS", sure=False),
    _name("signature", Fit.END, "signature", "X-Goog-Signature", in_variables=Fit.WHOLE, sure=False),
    _name("sig", Fit.WHOLE, "sig", sure=False),
    _name("hmac", Fit.WHOLE, "hmac", sure=False),
    _name("auth", Fit.WHOLE, "auth", "X-Auth", sure=False),
    _name("authorization", Fit.LAST, "authorization", "Proxy-Authorization", sure=False),
    _name("assertion", Fit.WHOLE, "assertion", sure=False),
    _name("saml response", Fit.WHOLE, "SAMLResponse", sure=False),
    _name("otp", Fit.WHOLE, "otp", sure=False),
    _name("session", Fit.WHOLE, "session", sure=False),
    _name("session id", Fit.WHOLE, "session_id", "X-Session-Id", sure=False),
    _name("sid", Fit.WHOLE, "sid", sure=False),
    _name("jsessionid", Fit.WHOLE, "JSESSIONID", sure=False),
    _name("phpsessid", Fit.WHOLE, "PHPSESSID", sure=False),
    _name("google access id", Fit.WHOLE, "GoogleAccessId", sure=False),
    _name("key pair id", Fit.WHOLE, "Key-Pair-Id", sure=False),
)

NO_CREDENTIALS: Final = (
    # Fingerprints of public keys are what a Dockerfile verifies downloads with: `ENV GPG_KEY`, `NGINX_GPGKEY`.
    r"(?:.*_)?(?:public|pub|gpg|pgp|primary|foreign|sort|partition|cache|ssh_?host)_?key"
    r"|(?:.*_)?(?:mon|don|tur|whis|hoc|joc|hot)key"
    # The tokens of a tokenizer, and folders.
    r"|(?:.*_)?(?:pad|eos|bos|unk|mask|sep|cls|start|end|stop|special)_token|(?:old_?)?pwd"
)
"""Variables that hold no credential in spite of their name: a regular expression for its words, joined by `_`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenForm:
    """Tokens that say what they are, in words and as a regular expression; `variable` is a name to keep one in."""

    words: str
    pattern: str
    variable: str


def _token(words: str, variable: str, *patterns: str) -> TokenForm:
    return TokenForm(words=words, pattern="|".join(patterns), variable=variable)


TOKENS: Final = (
    _token("a GitHub token", "GITHUB_TOKEN", r"gh[pousr]_[A-Za-z0-9]{20,}", r"github_pat_\w{20,}"),
    _token("a GitLab token", "GITLAB_TOKEN", r"gl(?:pat|ptt|dt|rt|ft|soat|cbt)-[\w-]{20,}"),
    _token("a Hugging Face token", "HF_TOKEN", r"hf_[A-Za-z0-9]{20,}"),
    _token("an OpenAI or Anthropic key", "OPENAI_API_KEY", r"sk-[A-Za-z0-9_-]{20,}"),
    _token("an NVIDIA key", "NVIDIA_API_KEY", r"nvapi-[\w-]{20,}"),
    _token("an npm token", "NPM_TOKEN", r"npm_[A-Za-z0-9]{30,}"),
    _token("a PyPI token", "PYPI_TOKEN", r"pypi-AgEI[\w-]{20,}"),
    _token("a Docker token", "DOCKER_TOKEN", r"dckr_[po]at_[\w-]{20,}"),
    _token("an AWS access key id", "AWS_ACCESS_KEY_ID", r"A(?:KIA|SIA)[0-9A-Z]{16}"),
    _token("a Google API key", "GOOGLE_API_KEY", r"AIza[\w-]{35}"),
    _token("a Slack token", "SLACK_TOKEN", r"xox[abeprs]-[\w-]{10,}"),
    _token("a Stripe key", "STRIPE_API_KEY", r"[rs]k_live_[A-Za-z0-9]{20,}"),
    _token("a Vault token", "VAULT_TOKEN", r"hv[sb]\.[\w-]{24,}"),
    # Only where a word begins: a long word would be searched from each of its parts on.
    _token("a JSON web token", "API_TOKEN", r"(?<![\w-])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"),
    _token(
        "a private key",
        "PRIVATE_KEY",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    ),
)

*_WORDS, _PRIVATE_KEY = (form.pattern for form in TOKENS)
TOKEN: Final = regex(rf"(?P<value>(?<![A-Za-z0-9])(?:{'|'.join(_WORDS)})(?![A-Za-z0-9])|{_PRIVATE_KEY})")
"""Any of TOKENS. Each is a word, but for a private key: no chance makes what it begins with."""

SCHEMES: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("basic", "bearer", "token", "apikey", "aws4-hmac-sha256", "aws"), True),
    **dict.fromkeys(("digest", "negotiate", "ntlm", "kerberos", "hawk", "signature", "scram-sha-256"), False),
}
"""Schemes of an Authorization header (lower case), and whether what follows holds the secret itself.

The others prove for one request that the client knows it.
"""


NO_OPTIONS: Final = r"no|disabled?|enable|ask|prompt|empty|allow|with(?:out)?|random|generate|require|use|show|skip"
"""First words (a regular expression) of options that take no credential: `adduser --disabled-password`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramOption:
    """How a program takes a password otherwise than by an option of a credential's name.

    `programs` and `pattern` are regular expressions; the group `value` of `pattern` is the password.
    """

    programs: str
    pattern: str
    example: str


PROGRAMS: Final = (
    ProgramOption(
        programs="curl",
        pattern=r"(?<=\s)(?:-[A-Za-z]*[uU][ \t]*|--(?:user|proxy-user)[ \t=]+)['\"]?[^\s:'\"]*:(?P<value>[^\s'\"]+)",
        example="curl -u me:PASSWORD https://host",
    ),
    ProgramOption(
        programs="(?:mysql|mariadb)(?:-?dump|-?admin|-?import)?",
        pattern=r"(?<=\s)-p['\"]?(?P<value>[^\s'\"]+)",
        example="mysql -pPASSWORD",
    ),
    ProgramOption(
        programs="(?:mysql|mariadb-)admin",
        pattern=r"\spassword[ \t]+['\"]?(?P<value>[^\s'\"]+)",
        example="mysqladmin password PASSWORD",
    ),
    ProgramOption(
        programs="sshpass", pattern=r"(?<=\s)-p[ \t]*['\"]?(?P<value>[^\s'\"]+)", example="sshpass -p PASSWORD ssh host"
    ),
    ProgramOption(
        programs="redis-cli", pattern=r"(?<=\s)-a[ \t]+['\"]?(?P<value>[^\s'\"]+)", example="redis-cli -a PASSWORD"
    ),
    ProgramOption(
        programs="docker|podman|nerdctl|buildah|skopeo|oras|crane|helm",
        pattern=r"\slogin\s(?:[^\n]{0,256}?\s)?-p[ \t]*['\"]?(?P<value>[^\s'\"]+)",
        example="docker login -u me -p PASSWORD registry",
    ),
    ProgramOption(
        programs="openssl",
        pattern=r"\s-pass(?:in|out)?[ \t]+['\"]?pass:(?P<value>[^\s'\"]+)",
        example="openssl enc -pass pass:PASSWORD",
    ),
    ProgramOption(
        programs="mongo(?:sh|dump|restore|import|export)?",
        pattern=r"(?<=\s)-p[ \t]+['\"]?(?P<value>[^\s'\"-][^\s'\"]*)",
        example="mongosh -u me -p PASSWORD",
    ),
    ProgramOption(
        programs="lftp",
        pattern=r"(?<=\s)-u[ \t]*['\"]?[^\s,'\"]+,(?P<value>[^\s'\"]+)",
        example="lftp -u me,PASSWORD host",
    ),
    ProgramOption(
        programs="smbclient|rpcclient|smbget",
        pattern=r"(?<=\s)-U[ \t]*['\"]?[^\s%'\"]+%(?P<value>[^\s'\"]+)",
        example="smbclient -U me%PASSWORD //host/share",
    ),
    ProgramOption(
        programs=r"mount(?:\.cifs)?|mount\.davfs",
        pattern=r"[ ,](?:password|pass)=(?P<value>[^\s,'\"]+)",
        example="mount -o username=me,password=PASSWORD //host/share /mnt",
    ),
    ProgramOption(
        programs="ssh-keygen",
        pattern=r"(?<=\s)-[NP][ \t]*['\"]?(?P<value>[^\s'\"-][^\s'\"]*)",
        example="ssh-keygen -N PASSWORD -f key",
    ),
    ProgramOption(
        programs="(?:un)?zip",
        pattern=r"(?<=\s)-P[ \t]*['\"]?(?P<value>[^\s'\"-][^\s'\"]*)",
        example="unzip -P PASSWORD files.zip",
    ),
    ProgramOption(
        programs="7z[ar]?|7zz", pattern=r"(?<=\s)-p['\"]?(?P<value>[^\s'\"]+)", example="7z x -pPASSWORD files.7z"
    ),
    ProgramOption(
        programs="nuget|dotnet",
        pattern=r"(?i:(?<=\s)-password)[ \t]+['\"]?(?P<value>[^\s'\"-][^\s'\"]*)",
        example="nuget sources add -username me -password PASSWORD",
    ),
    ProgramOption(
        programs="composer",
        pattern=r"\sconfig\s(?:--?\S+\s+)*"
        r"(?:http-basic\.\S+[ \t]+\S+|(?:\w+-oauth|bearer)\.\S+)[ \t]+['\"]?(?P<value>[^\s'\"]+)",
        example="composer config http-basic.host me PASSWORD",
    ),
    ProgramOption(
        programs="wandb",
        pattern=r"\slogin\s(?:--\S+[ \t]+)*['\"]?(?P<value>[^\s'\"-][^\s'\"]*)",
        example="wandb login PASSWORD",
    ),
)

_BREAKS: Final = regex(r"[^0-9A-Za-z]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def words_of(name: str) -> list[str]:
    """The words of a name in lower case: `X-Api-Key`, `x_api_key` and `xApiKey` are x, api, key."""
    return [word.lower() for word in _BREAKS.split(name) if word]


def _by_fit(fits: Mapping[CredentialName, Fit]) -> dict[Fit, dict[str, CredentialName]]:
    """The longest first: an access key id is not an access key."""
    names = sorted(fits, key=lambda name: -len(name.words))
    return {fit: {name.words.replace(" ", ""): name for name in names if fits[name] is fit} for fit in Fit}


_IN_REQUESTS: Final = _by_fit({name: name.fit for name in NAMES})
_IN_VARIABLES: Final = _by_fit({name: name.in_variables or name.fit for name in NAMES})


def _find(name: str, table: Mapping[Fit, Mapping[str, CredentialName]]) -> CredentialName | None:
    words = words_of(name)
    if not words:
        return None
    joined = "".join(words)
    whole = joined[1:] if words[0] == "x" else joined  # headers that are not standard: X-Session
    return (
        table[Fit.LAST].get(words[-1])
        or table[Fit.WHOLE].get(whole)
        or next((entry for end, entry in table[Fit.END].items() if joined.endswith(end)), None)
    )


@lru_cache(maxsize=4096)
def credential_name(name: str) -> CredentialName | None:
    """The entry of the table for a query parameter or a header of this name: what it holds is a credential."""
    return _find(name, _IN_REQUESTS)


@lru_cache(maxsize=4096)
def variable_name(name: str) -> CredentialName | None:
    """The entry of the table for a variable of this name. Whether its value is one, `klock.secrets.values` tells."""
    entry = _find(name, _IN_VARIABLES)
    return None if entry and re.fullmatch(NO_CREDENTIALS, "_".join(words_of(name))) else entry
