"""Where a .deb is: an archive, which a mirror may stand in for, and a path in it.

Debian's own archives go by name in a lockfile (`debian`, `debian-security`), any other by its URL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from klock.errors import FetchError, ResolutionError
from klock.fetching.mirrors import DEBIAN_ARCHIVES
from klock.lockfile.model import DebPackage

__all__ = ["parse_uris", "releases_of", "sources_list", "url_of"]

_PRINTED: Final = re.compile(r"^'(?P<url>[^']+)' (?P<file>\S+\.deb) (?P<size>\d+) (?P<hash>\S*)\s*$", re.MULTILINE)
_SHA256: Final = re.compile(r"SHA256:([0-9a-f]{64})")
_POOL: Final = re.compile(r"/(?:pool|dists)/")
_OWN_NAMES: Final = {
    # Every host that serves Debian's archives under Debian's own names.
    "deb.debian.org/debian": "debian",
    "ftp.debian.org/debian": "debian",
    "deb.debian.org/debian-security": "debian-security",
    "security.debian.org/debian-security": "debian-security",
    "security.debian.org": "debian-security",
}
_WITHOUT_UPDATES: Final = frozenset({"sid", "unstable", "experimental"})


def url_of(deb: DebPackage, archives: Mapping[str, str]) -> str:
    """Where a .deb is fetched from. `+` is escaped: some archives serve from storage that takes it for a space."""
    base = archives.get(deb.archive) or DEBIAN_ARCHIVES.get(deb.archive) or deb.archive
    if urlsplit(base).scheme not in ("http", "https"):
        raise FetchError(f"{deb.name} {deb.version} comes from an unknown archive {deb.archive!r}")
    return f"{base}/{quote(deb.path, safe='/~:')}"


def sources_list(suite: str, archives: Mapping[str, str], *, keyring: str) -> str:
    """The apt sources of a suite with its updates, one line each (sources.list(5))."""
    options = f"[signed-by={keyring}]"
    return "".join(f"deb {options} {archive} {name} main\n" for archive, name in _suites(suite, archives))


def releases_of(suite: str, archives: Mapping[str, str]) -> list[str]:
    """Where the signed index of each of these sources is."""
    return [f"{archive}/dists/{name}/InRelease" for archive, name in _suites(suite, archives)]


def _suites(suite: str, archives: Mapping[str, str]) -> list[tuple[str, str]]:
    """An archive and what it calls the suite, or updates of it."""
    main, security = archives["debian"], archives["debian-security"]
    updates = [(main, f"{suite}-updates"), (security, f"{suite}-security")]
    return [(main, suite), *([] if suite in _WITHOUT_UPDATES else updates)]


def parse_uris(output: str, *, archives: Mapping[str, str], known: Sequence[DebPackage] = ()) -> tuple[DebPackage, ...]:
    """Reads what `apt-get install --print-uris` printed, sorted by name.

    A package that is in `known` with the same version and hash is taken from there, wherever it was found this time.
    Raises ResolutionError for a package without a SHA-256.
    """
    names = {url: name for name, url in archives.items()}
    remembered = {(deb.name, deb.version, deb.architecture, deb.sha256): deb for deb in known}
    debs = []
    for match in _PRINTED.finditer(output):
        name, version, architecture = unquote(match["file"].removesuffix(".deb")).split("_")
        digest = _SHA256.fullmatch(match["hash"])
        if digest is None:
            raise ResolutionError(f"the package {name} {version} has no SHA-256 in its archive, so it cannot be locked")
        same = remembered.get((name, version, architecture, digest[1]))
        if same is None:
            archive, path = _split(match["url"], names)
            same = DebPackage(
                name=name,
                version=version,
                architecture=architecture,
                path=path,
                size=int(match["size"]),
                sha256=digest[1],
                archive=archive,
            )
        debs.append(same)
    return tuple(sorted(debs, key=lambda deb: (deb.name, deb.architecture)))


def _split(url: str, names: Mapping[str, str]) -> tuple[str, str]:
    """An archive and a path in it. User names and passwords are left out: a lockfile holds none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ResolutionError(
            f"the package at {url} is inside the environment, not in an archive klock can fetch from",
            hint="put the .deb beside kimage.py, copy it with rsync(), and install it with run_bash()",
        )
    plain = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    for base, name in names.items():
        if plain.startswith(f"{base}/"):
            return name, unquote(plain.removeprefix(f"{base}/"))
    pool = _POOL.search(plain)
    base, path = (plain[: pool.start()], plain[pool.start() + 1 :]) if pool else plain.rsplit("/", 1)
    return _OWN_NAMES.get(base.partition("://")[2], base), unquote(path)
