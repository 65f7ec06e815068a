"""What klock leaves out of every layer or makes equal, and why: short lists, as data, shown to users in docs/layers.md.

Two runs of one command must give one layer. First, commands are told to repeat themselves (STEP_ENVIRONMENT). What then
differs without a meaning is left out where nothing needs it (logs, caches), and else rewritten without the times in it,
in small formats that are known to the last byte. `klock.layers.canonical` besides keeps the bytecode of Python modules
in step with the time that their source gets. Every change of a list changes the digests of layers, so it comes with a
new `klock.layers.NORMALISATION`, which lockfiles record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Final

from klock.layers.rewriting import berkeley_db, conda, crontab, git_index, gnupg, java_keystore, pnpm, tex
from klock.values import dataclass

__all__ = [
    "EMPTIED",
    "LEFT_OUT",
    "MTIME",
    "REWRITTEN",
    "STEP_ENVIRONMENT",
    "Rewriting",
    "Rule",
    "above",
    "is_emptied",
    "is_left_out",
    "left_out_expression",
    "matcher",
    "may_hold_left_out",
    "rewriting_of",
]

MTIME: Final = 946684800
"""The modification time of every path in a layer, in seconds: 2000-01-01T00:00:00Z. (ZIP files start at 1980.)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Paths relative to the root: `*` and `?` stop at a slash, `**` crosses it. `reason` says why they are listed."""

    pattern: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewriting(Rule):
    """Files whose content is replaced by what `rewrite` makes of it: bytes of any other format it leaves unchanged."""

    rewrite: Callable[[bytes], bytes]


LEFT_OUT: Final = (
    Rule(pattern="dev/**", reason="the engine provides /dev"),
    Rule(pattern="proc/**", reason="the kernel provides /proc"),
    Rule(pattern="sys/**", reason="the kernel provides /sys"),
    Rule(pattern="run/**", reason="/run is empty at every start"),
    Rule(pattern="tmp/**", reason="/tmp is empty at every start"),
    Rule(pattern="var/tmp/**", reason="temporary files"),
    Rule(pattern="var/log/dpkg.log", reason="a log with times"),
    Rule(pattern="var/log/alternatives.log", reason="a log with times"),
    Rule(pattern="var/log/bootstrap.log", reason="a log with times"),
    Rule(pattern="var/log/apt/**", reason="logs with times"),
    Rule(pattern="var/log/journal/**", reason="logs with times"),
    Rule(pattern="var/log/lastlog", reason="times of logins"),
    Rule(pattern="var/log/faillog", reason="times of logins"),
    Rule(pattern="var/cache/apt/*.bin", reason="apt's index of its lists, made again when missing; it holds times"),
    Rule(pattern="var/cache/apt/archives/**", reason="downloaded packages"),
    Rule(pattern="var/cache/debconf/*-old", reason="a backup of the state before the last change"),
    Rule(pattern="var/lib/dpkg/*-old", reason="a backup of the state before the last change"),
    Rule(pattern="var/cache/ldconfig/aux-cache", reason="ldconfig's cache of inode numbers and times"),
    Rule(pattern="var/cache/man/**", reason="man's index of pages, made again when missing; it holds times"),
    Rule(pattern="root/.wget-hsts", reason="wget's note of when it met hosts"),
    Rule(pattern="home/*/.wget-hsts", reason="wget's note of when it met hosts"),
    Rule(pattern="root/.local/state/pipx/log/**", reason="logs with times"),
    Rule(pattern="home/*/.local/state/pipx/log/**", reason="logs with times"),
    Rule(pattern="**/logs/cmd_????-??-??_??.??.??*.log", reason="pipx's logs where PIPX_HOME is set, with times"),
    Rule(pattern="**/CMakeFiles/CMakeOutput.log", reason="cmake's log of its checks, with random names"),
    Rule(pattern="**/CMakeFiles/CMakeError.log", reason="cmake's log of its checks, with random names"),
    Rule(pattern="**/CMakeFiles/CMakeConfigureLog.yaml", reason="cmake's log of its checks, with random names"),
    Rule(pattern="root/.cache/pip/**", reason="pip's downloads"),
    Rule(pattern="root/.cache/uv/**", reason="uv's downloads"),
    Rule(pattern="root/.npm/**", reason="npm's downloads and logs"),
    Rule(pattern="home/*/.cache/pip/**", reason="pip's downloads"),
    Rule(pattern="home/*/.cache/uv/**", reason="uv's downloads"),
    Rule(pattern="home/*/.npm/**", reason="npm's downloads and logs"),
    Rule(pattern="**conda*/pkgs/cache/**", reason="conda's copies of the indexes of channels, with times"),
    Rule(pattern="**mamba*/pkgs/cache/**", reason="mamba's copies of the indexes of channels, with times"),
    Rule(pattern="**miniforge*/pkgs/cache/**", reason="conda's copies of the indexes of channels, with times"),
    Rule(pattern="root/.conda/aau_token*", reason="a random number by which Anaconda counts users"),
    Rule(pattern="home/*/.conda/aau_token*", reason="a random number by which Anaconda counts users"),
    Rule(pattern="**/web2c/**.log", reason="logs of making TeX's formats and lists of fonts, with times"),
    Rule(pattern="root/.cache/pnpm/**", reason="pnpm's copies of the index of packages"),
    Rule(pattern="home/*/.cache/pnpm/**", reason="pnpm's copies of the index of packages"),
    Rule(pattern="root/.cache/pypoetry/cache/**", reason="poetry's downloads"),
    Rule(pattern="home/*/.cache/pypoetry/cache/**", reason="poetry's downloads"),
    Rule(pattern="root/.cache/pypoetry/artifacts/**", reason="poetry's downloads"),
    Rule(pattern="home/*/.cache/pypoetry/artifacts/**", reason="poetry's downloads"),
    Rule(pattern="root/.cache/pdm/http/**", reason="pdm's copies of the indexes of packages, with times"),
    Rule(pattern="home/*/.cache/pdm/http/**", reason="pdm's copies of the indexes of packages, with times"),
    Rule(pattern="root/.cache/virtualenv/**", reason="virtualenv's copies of pip and setuptools, with times"),
    Rule(pattern="home/*/.cache/virtualenv/**", reason="virtualenv's copies of pip and setuptools, with times"),
    Rule(pattern="root/.local/share/virtualenv/**", reason="virtualenv's copies of pip and setuptools, with times"),
    Rule(pattern="home/*/.local/share/virtualenv/**", reason="virtualenv's copies of pip and setuptools, with times"),
    Rule(pattern="root/.cache/pip-tools/**", reason="downloads of pip-compile"),
    Rule(pattern="home/*/.cache/pip-tools/**", reason="downloads of pip-compile"),
    Rule(pattern="root/.cache/go-build/**", reason="go's cache of what it compiled, with times"),
    Rule(pattern="home/*/.cache/go-build/**", reason="go's cache of what it compiled, with times"),
    Rule(pattern="root/.cache/ccache/**", reason="ccache's cache of what was compiled"),
    Rule(pattern="home/*/.cache/ccache/**", reason="ccache's cache of what was compiled"),
    Rule(pattern="**/target/.rustc_info.json", reason="cargo's note about its compiler, in a random order"),
    Rule(pattern="**/.ninja_log", reason="ninja's note of what it built when; it builds again without"),
    Rule(pattern="**/.ninja_deps", reason="ninja's note of what it built when; it builds again without"),
    Rule(pattern="**/.mypy_cache/**", reason="mypy's cache of what it checked, with times"),
    Rule(pattern="**/.ruff_cache/**", reason="ruff's cache of what it checked, with times"),
    Rule(pattern="**/.doctrees/environment.pickle", reason="Sphinx's note of what it read, in a random order"),
    Rule(
        pattern="**/web2c/lua*/*lualatex.fmt",
        reason="LuaLaTeX's formats, in a random order; TeX makes them when missing",
    ),
    Rule(pattern="root/.cache/rattler/**", reason="pixi's downloads"),
    Rule(pattern="home/*/.cache/rattler/**", reason="pixi's downloads"),
)

EMPTIED: Final = (
    Rule(pattern="etc/machine-id", reason="a random number that every machine must make for itself"),
    Rule(pattern="var/lib/dbus/machine-id", reason="a random number that every machine must make for itself"),
)

REWRITTEN: Final = (
    Rewriting(
        pattern="**.git/**index",
        reason="git's index holds times, device, inode and owner of files; git finds them out again",
        rewrite=git_index.without_stat_data,
    ),
    Rewriting(
        pattern="etc/ssl/certs/java/cacerts",
        reason="Java's key store of the system's certificates holds the time at which each was added",
        rewrite=partial(java_keystore.without_times, seconds=MTIME),
    ),
    Rewriting(
        pattern="var/spool/cron/crontabs/*",
        reason="the comment above a user's crontab holds the time at which it was installed",
        rewrite=partial(crontab.without_time, seconds=MTIME),
    ),
    Rewriting(
        pattern="**.gnupg/pubring.kbx",
        reason="GnuPG's key box holds the times at which it was made and keys were added",
        rewrite=partial(gnupg.without_time, seconds=MTIME),
    ),
    Rewriting(
        pattern="**/conda-meta/history",
        reason="conda notes the time of each change of an environment",
        rewrite=partial(conda.history_without_times, seconds=MTIME),
    ),
    Rewriting(
        pattern="**/conda-meta/created_at",
        reason="conda notes the time at which it made an environment",
        rewrite=partial(conda.creation_without_time, seconds=MTIME),
    ),
    Rewriting(
        pattern="**/pkgs/urls.txt",
        reason="conda adds the URL of a package whenever one of several downloads ends: its lines are sorted",
        rewrite=conda.sorted_urls,
    ),
    Rewriting(
        pattern="**/pkgs/urls",
        reason="conda adds the URL of a package whenever one of several downloads ends: its lines are sorted",
        rewrite=conda.sorted_urls,
    ),
    Rewriting(
        pattern="**/ls-R",
        reason="TeX's database of names lists folders in the order of the disk: the names are sorted",
        rewrite=tex.sorted_names,
    ),
    Rewriting(
        pattern="**/ls-R-TEX*",
        reason="TeX's database of names lists folders in the order of the disk: the names are sorted",
        rewrite=tex.sorted_names,
    ),
    Rewriting(
        pattern="**/web2c/lua*/*.fmt",
        reason="LuaTeX writes exceptions of hyphenation in a random order: they are sorted, and nothing is compressed",
        rewrite=tex.with_sorted_exceptions,
    ),
    Rewriting(
        pattern="**/node_modules/.modules.yaml",
        reason="pnpm notes the time at which it last removed packages",
        rewrite=partial(pnpm.modules_without_time, seconds=MTIME),
    ),
    Rewriting(
        pattern="**/pnpm/store/**.json",
        reason="pnpm notes the time at which it last checked the files of its store",
        rewrite=partial(pnpm.index_without_times, seconds=MTIME),
    ),
    Rewriting(
        pattern="**/web2c/tex/*.fmt",
        reason="TeX keeps in a format the time at which it was made",
        rewrite=partial(tex.without_time, seconds=MTIME),
    ),
    Rewriting(
        pattern="etc/aliases.db",
        reason="Postfix notes the time at which it made the database of aliases, and gives it a random id",
        rewrite=partial(berkeley_db.without_time, seconds=MTIME),
    ),
    Rewriting(
        pattern="etc/postfix/**.db",
        reason="Postfix notes the time at which it made a lookup table, and gives it a random id",
        rewrite=partial(berkeley_db.without_time, seconds=MTIME),
    ),
    Rewriting(
        pattern="**.gnupg/pubring.kbx~",
        reason="the key box as it was before the last change",
        rewrite=partial(gnupg.without_time, seconds=MTIME),
    ),
    Rewriting(
        pattern="**.gnupg/trustdb.gpg",
        reason="GnuPG's database of trust holds the time at which it was made",
        rewrite=partial(gnupg.trust_without_time, seconds=MTIME),
    ),
)

STEP_ENVIRONMENT: Final[Mapping[str, str]] = {
    # Hash-based .pyc files, a stable /etc/shadow, stable font caches, wheels that can be built twice.
    "SOURCE_DATE_EPOCH": str(MTIME),
    "PYTHONHASHSEED": "0",
    "PERL_HASH_SEED": "0",
    "PERL_PERTURB_KEYS": "0",
    "PIP_NO_CACHE_DIR": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
    "UV_NO_CACHE": "1",
    # uv_cache.json would hold a time.
    "UV_NO_INSTALLER_METADATA": "1",
    "DEBIAN_FRONTEND": "noninteractive",
    "npm_config_cache": "/tmp/npm",
    "npm_config_audit": "false",
    "npm_config_fund": "false",
    "npm_config_update_notifier": "false",
    # git writes a time into reflogs and commits.
    "GIT_AUTHOR_DATE": f"@{MTIME} +0000",
    "GIT_COMMITTER_DATE": f"@{MTIME} +0000",
    # Names of incremental builds hold times.
    "CARGO_INCREMENTAL": "0",
    # TeX writes SOURCE_DATE_EPOCH into its formats only if told twice.
    "FORCE_SOURCE_DATE": "1",
}
"""Variables set while the steps of an image run, under those the image sets. They are never part of the environment."""


def is_left_out(path: str) -> bool:
    """Whether a path (relative to the root) is never part of a layer nor of an observation."""
    return _left_out().fullmatch(path) is not None


def left_out_expression() -> str:
    """What `is_left_out` matches, as a regular expression for programs that have no klock. A dot is any character."""
    return _left_out().pattern


def may_hold_left_out(path: str) -> bool:
    """Whether a hidden folder (relative to the root) is one that paths which are left out lie in: `root/.cache`."""
    return _holders().fullmatch(path) is not None


def is_emptied(path: str) -> bool:
    """Whether a file at this path (relative to the root) is kept without its content."""
    return _emptied().fullmatch(path) is not None


def rewriting_of(path: str) -> Callable[[bytes], bytes] | None:
    """What rewrites the content of a file at this path (relative to the root); None for nearly all files."""
    anchored, every = _rewritings()
    rules = every if _names_anywhere().fullmatch(path, path.rfind("/") + 1) else anchored
    return next((rewrite for named, rewrite in rules if named.fullmatch(path)), None)


def matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a path (relative to the root) is named by one of a step's own patterns, or is below one that is.

    The patterns are of absolute paths, with the wildcards of `Rule`.
    """
    if not patterns:
        return lambda path: False
    expression = _expression(pattern.strip("/") for pattern in patterns)
    named = re.compile(f"(?:{expression})(?:/.*)?", re.DOTALL)
    return lambda path: named.fullmatch(path) is not None


def above(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a path (relative to the root) is a folder above one that a step's own patterns may name."""
    if not patterns:
        return lambda path: False
    parts = [pattern.strip("/").split("/") for pattern in patterns]
    folders = sorted({"/".join(each[:depth]) for each in parts for depth in range(1, len(each))})
    named = re.compile(_expression(folders) or "(?!)", re.DOTALL)
    return lambda path: named.fullmatch(path) is not None


# Compiled once, on first use. Functions without arguments: looking up a tuple of rules in the cache takes longer than
# matching a path, and every path of an environment is matched.


@cache
def _left_out() -> re.Pattern[str]:
    return _any_of(LEFT_OUT)


@cache
def _holders() -> re.Pattern[str]:
    """The hidden folders above the patterns: others, such as /home/joe, are there for more than what is left out."""
    patterns = [rule.pattern.split("/") for rule in LEFT_OUT if not rule.pattern.startswith("**")]
    above = {tuple(parts[:depth]) for parts in patterns for depth in range(1, len(parts))}
    hidden = sorted("/".join(parts) for parts in above if any(part.startswith(".") for part in parts))
    return re.compile(_expression(hidden), re.DOTALL)


@cache
def _emptied() -> re.Pattern[str]:
    return _any_of(EMPTIED)


_Rewritings = tuple[tuple[re.Pattern[str], Callable[[bytes], bytes]], ...]


@cache
def _rewritings() -> tuple[_Rewritings, _Rewritings]:
    """The rules whose patterns begin at the root, and all rules."""
    rules = [(_any_of([rule]), rule.rewrite, rule.pattern.startswith("**")) for rule in REWRITTEN]
    return tuple(rule[:2] for rule in rules if not rule[2]), tuple(rule[:2] for rule in rules)


@cache
def _names_anywhere() -> re.Pattern[str]:
    """The last names of the patterns that begin anywhere. Those take long to match, and few files have such a name."""
    patterns = (rule.pattern for rule in REWRITTEN if rule.pattern.startswith("**"))
    return re.compile(_expression(pattern.rpartition("/")[2] for pattern in patterns), re.DOTALL)


def _any_of(rules: Sequence[Rule]) -> re.Pattern[str]:
    return re.compile(_expression(rule.pattern for rule in rules), re.DOTALL)


def _expression(patterns: Iterable[str]) -> str:
    special = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = (re.split(r"(\*\*|\*|\?)", pattern) for pattern in patterns)
    return "|".join("".join(special.get(part) or re.escape(part) for part in pattern) for pattern in parts)
