"""Files that are credentials, by name or by what they hold, as data. docs/secrets.md shows the table to users."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import Enum
from functools import cache
from typing import Final

from klock.values import dataclass, field
from klock.words import some

__all__ = ["FILES", "LOOKED_INTO", "CredentialFile", "CredentialFiles", "Treatment", "credential_file"]

LOOKED_INTO: Final = 1 << 16
"""Bytes at the beginning of a file that are searched."""


class Treatment(Enum):
    """What becomes of such files in a folder that a step copies: the setting `credential-files`."""

    WARN = "warn"
    LEAVE_OUT = "leave-out"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialFile:
    """A kind of file: `names` are the ends of its path, with `*`; but for `besides`, which are examples.

    With `holds` (a regular expression) its content has to have that too; `holds_in_words` says what it is.
    """

    words: str
    names: tuple[str, ...]
    besides: tuple[str, ...] = ()
    holds: bytes | None = None
    holds_in_words: str = ""


@dataclass(slots=True, kw_only=True)
class CredentialFiles:
    """How to treat them, and those that were found: path and what it is. A step has those that it names itself."""

    treatment: Treatment = Treatment.WARN
    found: list[tuple[str, str]] = field(default_factory=list)
    named: set[str] = field(default_factory=set)

    def notes(self, where: str) -> Iterator[str]:
        """What the user is told of those that the step at `where` copies, and of those that it leaves out."""
        told = [] if self.treatment is Treatment.ALLOW else sorted(self.found)
        left_out = [each for each in told if self.treatment is Treatment.LEAVE_OUT and each[0] not in self.named]
        if left_out:
            yield f"{where} leaves out what looks like a credential: {_listed(left_out)}"
        if copied := [each for each in told if each not in left_out]:
            yield (
                f'{where} copies what looks like a credential: {_listed(copied)}; credential-files = "leave-out" in '
                '[tool.klock] leaves such files out, "allow" copies them without a warning'
            )


def _listed(files: Sequence[tuple[str, str]]) -> str:
    return some([f"{path} ({words})" for path, words in files])


def _file(words: str, *names: str, holds: tuple[bytes, str] | None = None) -> CredentialFile:
    content, in_words = holds or (None, "")
    return CredentialFile(words=words, names=names, holds=content, holds_in_words=in_words)


FILES: Final = (
    CredentialFile(
        words="variables of an application",
        names=(".env", ".env.*"),
        besides=(".env.example", ".env.sample", ".env.template", ".env.dist", ".env.*.example", ".env.schema"),
    ),
    _file("an SSH key", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_ecdsa_sk", "id_ed25519_sk", "*.ppk"),
    _file(
        "a private key",
        "*",
        holds=(
            rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----\s+(?:[\w-]+: [^\n]*\s+)*[A-Za-z0-9+/=]{24}"
            rb"|(?m:^PuTTY-User-Key-File-\d)|(?m:^AGE-SECRET-KEY-1[0-9A-Z]{20})",
            "a private key",
        ),
    ),
    _file("a store of keys", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx"),
    _file("GnuPG's private keys", ".gnupg/private-keys-v1.d/*", "secring.gpg"),
    _file(
        "a service account's key",
        "*.json",
        holds=(rb'"type"\s*:\s*"service_account"(?s:.*)"private_key"\s*:', "a private key"),
    ),
    _file("Google Cloud's credentials", "application_default_credentials.json", "gcloud/credentials.db"),
    _file("AWS's credentials", ".aws/credentials", ".s3cfg", ".boto"),
    _file("Azure's tokens", ".azure/accessTokens.json", ".azure/msal_token_cache.json"),
    _file("kubectl's settings", ".kube/config", "kubeconfig"),
    _file("docker's logins", ".docker/config.json", holds=(rb'"(?:auth|identitytoken)"\s*:\s*"[^"]', "a login")),
    _file("docker's logins", ".dockercfg", ".dockerconfigjson"),
    _file("passwords of a netrc file", ".netrc", "_netrc"),
    _file("git's passwords", ".git-credentials", ".config/git/credentials"),
    _file("PyPI's settings", ".pypirc"),
    _file(
        "npm's settings",
        ".npmrc",
        ".yarnrc",
        ".yarnrc.yml",
        holds=(
            rb"(?i)(?:_authToken|_auth|_password|npmAuthToken|npmAuthIdent)[\"']?\s*[=:]\s*(?!\s*[\"']?\$)\S",
            "a token",
        ),
    ),
    _file("pip's settings", "pip.conf", holds=(rb"://[^\s/$@]+:[^\s/$@]+@", "a password in a URL")),
    _file("GitHub's logins", "gh/hosts.yml", holds=(rb"oauth_token:", "a token")),
    _file("Hugging Face's token", "huggingface/token", "huggingface/stored_tokens"),
    _file("Kaggle's key", "kaggle.json"),
    _file("Vault's token", ".vault-token"),
    _file("Terraform's credentials", "credentials.tfrc.json", "terraform.tfstate"),
    _file("Cargo's tokens", ".cargo/credentials", ".cargo/credentials.toml"),
    _file("RubyGems' keys", ".gem/credentials"),
    _file("Composer's passwords", "auth.json", holds=(rb'"(?:http-basic|github-oauth|gitlab-token|bearer)"', "logins")),
    _file("Maven's passwords", ".m2/settings.xml", holds=(rb"<password>\s*[^\s<$]", "a password")),
    _file("rclone's passwords", "rclone.conf"),
    _file("a database's passwords", ".pgpass", ".my.cnf", ".mylogin.cnf"),
    _file("passwords of a web server", ".htpasswd"),
)


_MARKS: Final = (b"PRIVATE KEY", b"PuTTY-User-Key-File", b"AGE-SECRET-KEY")
"""One stands in every file that is a private key, whatever its name."""


def credential_file(path: str, content: bytes) -> str | None:
    """What credential the file at the absolute `path` is, in words, if it is one. `content` is its beginning."""
    content = content[:LOOKED_INTO]
    is_marked = any(mark in content for mark in _MARKS)
    if not is_marked and not _any_name().fullmatch(path.rpartition("/")[2]):
        return None
    for file in FILES:
        if (
            any(_pattern(name).fullmatch(path) for name in file.names)
            and not any(_pattern(name).fullmatch(path) for name in file.besides)
            and (file.holds is None or re.search(file.holds, content))
        ):
            return file.words
    return None


@cache
def _any_name() -> re.Pattern[str]:
    """The last parts of all names, but for those that any file may have: most files are told by it at once."""
    last = {name.rpartition("/")[2] for file in FILES for name in file.names} - {"*"}
    return re.compile("|".join(_part(name) for name in sorted(last)))


@cache
def _pattern(name: str) -> re.Pattern[str]:
    """The end of a path. No star crosses a slash."""
    return re.compile(rf"(?s:.*/)?{_part(name)}")


def _part(name: str) -> str:
    return "[^/]*".join(map(re.escape, name.split("*")))
