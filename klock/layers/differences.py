"""Says where two runs of one step differ, and guesses why: what a person needs to make the step repeat itself.

A guess is taken from the path (an ssh host key is random) or from the bytes (two files are equal but for a date). It is
a help, no judgement: a step that differs has failed, whatever the reason.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.normalisation import Rule, matcher
from klock.layers.sketch import reconcile
from klock.values import dataclass, field
from klock.words import counted, listed

__all__ = ["Difference", "explain", "explain_by_sketch", "likely_reason"]

Read = Callable[[int, str], bytes | None]

_MOST_READ: Final = 64
"""The most files that one explanation reads: each may take milliseconds, and users read only the first lines."""

_MOST_COMPARED: Final = 64
_LARGEST: Final = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A path (relative to the root), what differs in it, and the likely reason where there is one. `pattern` also
    stands for the name that the path had in the other run, and will have in the next."""

    path: str
    what: str
    reason: str | None = None
    pattern: str = field(default="", compare=False)


_R_PACKAGE: Final = (
    "R notes when it built a package: give R CMD INSTALL, or INSTALL_opts of install.packages, "
    "--built-timestamp=2000-01-01"
)

PATHS: Final = (
    Rule(pattern="etc/ssh/ssh_host_*_key*", reason="ssh makes host keys at random; each machine should make its own"),
    Rule(pattern="etc/ssl/private/**", reason="a private key is random"),
    Rule(pattern="etc/ssl/certs/ssl-cert-snakeoil.pem", reason="the certificate of a random key"),
    Rule(pattern="etc/shadow*", reason="a password is hashed with a random salt, and the day of its change is noted"),
    Rule(pattern="etc/gshadow*", reason="a password is hashed with a random salt"),
    Rule(
        pattern="var/lib/postgresql/**",
        reason="a database cluster has a number made of the time, and times in it: leave all of it out",
    ),
    Rule(pattern="var/lib/mysql/**", reason="a new database has random keys, and times in it: leave all of it out"),
    Rule(pattern="etc/ldap/slapd.d/**", reason="a new directory has random ids, a hashed password, and times in it"),
    Rule(pattern="var/lib/ldap/**", reason="a new directory has random ids, and times in it"),
    Rule(pattern="etc/munge/munge.key", reason="a random key"),
    Rule(pattern="etc/bind/rndc.key", reason="a random key"),
    Rule(pattern="**/.erlang.cookie", reason="a random key"),
    Rule(pattern="etc/htpasswd", reason="a password is hashed with a random salt"),
    Rule(pattern="var/lib/systemd/random-seed", reason="a random seed"),
    Rule(pattern="var/lib/systemd/credential.secret", reason="a random key"),
    Rule(pattern="var/lib/apt/lists/**", reason="apt's lists: upstream has changed, or they were fetched another way"),
    Rule(pattern="**.pyc", reason="bytecode: its source differs, or had another time when it was compiled"),
    Rule(pattern="**/.gnupg/**", reason="gpg notes when keys were added"),
    Rule(pattern="**/.git/logs/**", reason="git's reflog holds times"),
    Rule(pattern="**/.git/**.pack", reason="git packs objects in the order its threads find"),
    Rule(pattern="**/.git/**.idx", reason="the index of a git pack"),
    Rule(
        pattern="**/web2c/lua*/*.fmt",
        reason="a format of LuaLaTeX, laid out by a random hash: leave it out, TeX makes it when it is missing",
    ),
    Rule(pattern="**/pkgs/cache/**", reason="conda's copies of the indexes of channels: end with conda clean -afy"),
    Rule(
        pattern="**/lib/modules",
        reason="jlink lays modules out by a random number on one CPU, where Java takes no G1: use jlink -J-XX:+UseG1GC",
    ),
    Rule(pattern="**/*library/*/DESCRIPTION", reason=_R_PACKAGE),
    Rule(pattern="**/*library/*/Meta/package.rds", reason=_R_PACKAGE),
    Rule(pattern="**/autom4te.cache/**", reason="autoconf's cache: remove it"),
    Rule(pattern="**.log", reason="a log"),
    Rule(pattern="var/log/**", reason="a log"),
    Rule(pattern="**/.cache/**", reason="a cache"),
    Rule(pattern="var/cache/**", reason="a cache"),
)
"""What is known of paths. The first rule that names a path counts."""

_RULES: Final = tuple((matcher([rule.pattern]), rule.reason) for rule in PATHS)

_RANDOM_NAME: Final = "a random name, such as mktemp makes"
_NUMBERS: Final = re.compile(r"\d+(?:[-_.:]?\d+)*")
_NUMBER_IN_NAME: Final = "a number in its name: a time, a process id or $RANDOM"
_SAME_LINES: Final = "the same lines in another order, such as a hash seed or parallel jobs make"

_MONTH: Final = rb"\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}\b"
_DAY: Final = rb"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6}\b"
_UUID: Final = rb"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Varying:
    """A pattern that, masked in two texts, makes them equal. It counts only if `sign` matches one of them."""

    mask: re.Pattern[bytes]
    reason: str
    sign: re.Pattern[bytes] | None = None


_TEXTS: Final = (
    _Varying(mask=re.compile(_UUID), reason="a UUID: a random number, or one made of the time"),
    _Varying(
        mask=re.compile(
            rb"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?)?|\b(?:19|20)\d{6}(?:T\d{4,6})?(?!\d)"
            rb"|(?<![.\d])\d{1,2}:\d\d(?::\d\d)?(?:[.,]\d{1,9})?|\b[AP]M\b|\b\d{1,4}\b|" + _MONTH + b"|" + _DAY
        ),
        reason="a date or a time of day",
        sign=re.compile(rb"\d:\d\d\b|\b(?:19|20)\d\d(?:[-/.]\d\d[-/.]|\d{4})\d\d|" + _MONTH),
    ),
    _Varying(mask=re.compile(rb"\b[12]\d{9}(?:\.\d{1,9}|\d{3}|\d{6}|\d{9})?\b"), reason="a time in seconds since 1970"),
    _Varying(mask=re.compile(rb"\d{1,40}"), reason="only digits differ: a time, a process id, a count or $RANDOM"),
    _Varying(
        mask=re.compile(rb"\b[0-9a-fA-F]{6,128}\b"),
        reason="a hexadecimal number: random, or the digest of something that differs",
    ),
    _Varying(
        mask=re.compile(rb"[A-Za-z0-9+/=_-]{6,1024}"),
        reason="random characters, or the digest of something that differs",
    ),
)
"""The narrowest first."""

_BEGINNINGS: Final = (
    (b"PK\x03\x04", "a ZIP archive holds the times of its files"),
    (
        b"\x7fELF",
        "a compiled program: __DATE__, __TIME__, the order of parallel jobs, or a random folder, whose name -g notes",
    ),
    (b"!<arch>\n", "a static library holds the times of its members: use ar rcD"),
    (b"SQLite format 3\0", "a database holds times and counters"),
    (b"\xfe\xed\xfe\xed", "a Java key store holds the time of each entry"),
    (b"\xa7\r\r\n", "bytecode with the time of its source"),
    (b"%PDF-", "a PDF holds the time it was made, and a random id"),
    (b"DIRC", "git's index"),
    (b"\x80", "a pickle: the order of a set depends on the hash seed"),
)

_GZIP: Final = b"\x1f\x8b"
_GZIP_HEADER: Final = "a gzip file holds the time it was made: use gzip -n"
_GZIP_CONTENT: Final = "what is compressed differs, such as the times in a tar archive: see tar --mtime and --sort"

_KEYS: Final = re.compile(
    rb"-----BEGIN [A-Z ]{0,40}(PRIVATE KEY|CERTIFICATE|PUBLIC KEY)|^ssh-[a-z0-9-]{2,20} AAAA", re.M
)


def explain(first: Manifest, second: Manifest, read: Read) -> list[Difference]:
    """The paths at which two manifests differ, sorted as manifests are. `read(0 or 1, path)` gives a file's bytes.

    A folder that only one of them has stands for all that is in it.
    """
    return list(_Comparison(first, second, read).differences())


@dataclass(frozen=True, slots=True, kw_only=True)
class _VaryingName:
    reason: str
    pattern: str


class _Comparison:
    def __init__(self, first: Manifest, second: Manifest, read: Read) -> None:
        self._sides = (first, second)
        self._read = read
        self._reads_left = _MOST_READ
        self._alone = (_only_in(first, second), _only_in(second, first))
        self._others = tuple(_by_folder(alone) for alone in reversed(self._alone))

    def differences(self) -> Iterator[Difference]:
        first, second = self._sides
        for path in Manifest([*first.values(), *second.values()]):
            one, other = first.get(path), second.get(path)
            if one is not None and other is not None:
                if one != other:
                    yield self._changed(one, other)
            elif path in self._alone[0] or path in self._alone[1]:
                yield self._only(path, 0 if other is None else 1)

    def _only(self, path: str, side: int) -> Difference:
        entry = self._sides[side][path]
        what = f"only in the {('first', 'second')[side]} run"
        if entry.kind is Kind.WHITEOUT:
            what = f"removed {what}"
        name = self._varying_name(path, side)
        reason = likely_reason(path) or (name.reason if name else None)
        return Difference(path=path, what=what, reason=reason, pattern=name.pattern if name else path)

    def _varying_name(self, path: str, side: int) -> _VaryingName | None:
        """What a path and one of the other side have in common that differ only in what looks random, or in numbers."""
        folder, _, name = path.rpartition("/")
        kind = self._sides[side][path].kind
        for other in self._others[side].get(folder, ())[:_MOST_COMPARED]:
            if self._sides[1 - side][f"{folder}/{other}" if folder else other].kind is not kind:
                continue
            above = f"{folder}/" if folder else ""
            if re.sub(r"\d+", "0", name) == re.sub(r"\d+", "0", other):
                return _VaryingName(reason=_NUMBER_IN_NAME, pattern=above + _NUMBERS.sub("*", name))
            begin, between, end = _in_three(name, other)
            if len(name) == len(other) and re.fullmatch(r"[A-Za-z0-9_]{3,}", between):
                return _VaryingName(reason=_RANDOM_NAME, pattern=f"{above}{begin}*{end}")
        return None

    def _changed(self, one: Entry, other: Entry) -> Difference:
        whats = list(_whats(one, other))
        reason = likely_reason(one.path)
        if reason is None and one.kind is other.kind is Kind.FILE and one.digest != other.digest:
            reason = self._reason_of_content(one, other)
        return Difference(path=one.path, what=", ".join(whats), reason=reason, pattern=one.path)

    def _reason_of_content(self, one: Entry, other: Entry) -> str | None:
        if max(one.size, other.size) > _LARGEST or self._reads_left == 0:
            return None
        self._reads_left -= 1
        contents = (self._read(0, one.path), self._read(1, other.path))
        if contents[0] is None or contents[1] is None:
            return None
        return _reason_of_contents(contents[0], contents[1])


def _only_in(one: Manifest, other: Manifest) -> dict[str, None]:
    """Paths that `one` has and `other` has not, without those below another such path."""
    alone: dict[str, None] = {}
    for path in sorted(path for path in one if path not in other):
        above = path
        while above := above.rpartition("/")[0]:
            if above in alone:
                break
        else:
            alone[path] = None
    return alone


def _by_folder(paths: Iterable[str]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        names.setdefault(folder, []).append(name)
    return names


def _whats(one: Entry, other: Entry) -> Iterator[str]:
    if one.kind is not other.kind:
        yield f"{_NAMES[one.kind]} in the first run, {_NAMES[other.kind]} in the second"
        return
    if one.digest != other.digest:
        yield "other content"
    if one.target != other.target:
        yield f"leads to {one.target} in the first run, to {other.target} in the second"
    if one.mode != other.mode:
        yield f"mode {one.mode:04o} in the first run, {other.mode:04o} in the second"
    if (one.uid, one.gid) != (other.uid, other.gid):
        yield f"owner {one.uid}:{one.gid} in the first run, {other.uid}:{other.gid} in the second"
    if one.xattrs != other.xattrs:
        yield "other extended attributes"


_NAMES: Final = {
    Kind.FILE: "a file",
    Kind.FOLDER: "a folder",
    Kind.SYMLINK: "a symlink",
    Kind.HARDLINK: "a hard link",
    Kind.FIFO: "a FIFO",
    Kind.WHITEOUT: "removed",
}


def _in_three(one: str, other: str) -> tuple[str, str, str]:
    """`one` as what both begin with, the part between, and what both end with."""
    start = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    end = len(one)
    while end > start and one[end - 1] == other[len(other) - (len(one) - end) - 1]:
        end -= 1
    return one[:start], one[start:end], one[end:]


def explain_by_sketch(sketch: str, made: Manifest, what: str) -> str | None:
    """Lines to put below a message, each a path where `made` differs from the sketched `what`, a layer or a tree.

    None when the sketch does not tell.
    """
    found = reconcile(sketch, made)
    if found is None:
        return None
    lines = [(path, "is not as it was locked") for path in found.changed]
    lines += [(path, f"is not in the locked {what}") for path in found.only_here]
    reasons = {path: likely_reason(path) for path, _ in lines}
    text = listed(f"/{path} {said}" + (f": {reasons[path]}" if reasons[path] else "") for path, said in sorted(lines))
    if found.missing:
        text += f"\n  {counted(found.missing, 'path')} of the locked {what} were not made here"
    return text


def likely_reason(path: str) -> str | None:
    """Why a path tends to differ, as far as its name tells."""
    return next((reason for names, reason in _RULES if names(path)), None)


def _reason_of_contents(one: bytes, other: bytes) -> str | None:
    if _KEYS.search(one) and _KEYS.search(other):
        return "a key or a certificate, made at random"
    if one.startswith(_GZIP) and other.startswith(_GZIP):
        return _GZIP_HEADER if _unzipped(one) == _unzipped(other) else _GZIP_CONTENT
    for beginning, reason in _BEGINNINGS:
        if one.startswith(beginning) and other.startswith(beginning):
            return reason
    if _looks_binary(one) or _looks_binary(other):
        return "a tar archive holds the times of its files" if one[257:262] == other[257:262] == b"ustar" else None
    return _reason_of_texts(one, other)


def _reason_of_texts(one: bytes, other: bytes) -> str | None:
    lines, others = one.splitlines(), other.splitlines()
    if sorted(lines) == sorted(others):
        return _SAME_LINES
    if len(lines) != len(others):
        return None
    pairs = [(a, b) for a, b in zip(lines, others, strict=True) if a != b]
    for varying in _TEXTS:
        has_sign = varying.sign is None or any(varying.sign.search(line) for line, _ in pairs)
        if has_sign and all(varying.mask.sub(b"0", a) == varying.mask.sub(b"0", b) for a, b in pairs):
            return varying.reason
    return None


def _looks_binary(content: bytes) -> bool:
    return b"\0" in content[:8192]


def _unzipped(content: bytes) -> bytes | None:
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(content, _LARGEST)
    except zlib.error:
        return None
