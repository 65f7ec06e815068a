"""A lockfile beside a project's policy. Each breach is a finding at the line that causes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from klock.errors import KlockError
from klock.fetching.mirrors import DEBIAN_ARCHIVES
from klock.findings import Code, Finding
from klock.lockfile.model import (
    DebianLock,
    DebPackage,
    LockedPackage,
    Lockfile,
    OciLock,
    SdistArtifact,
    StepLock,
    TargetLock,
    VcsArtifact,
)
from klock.policy.facts import Facts
from klock.policy.licences import is_allowed
from klock.policy.rules import Policy
from klock.steps import kind_of
from klock.steps.at import StepAt
from klock.values import dataclass

if TYPE_CHECKING:
    from klock.steps.context import Context

__all__ = ["Breaches", "breaches", "unsigned"]


@dataclass(slots=True, kw_only=True)
class Breaches:
    """`notes` say what could not be found out."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def breaches(
    lock: Lockfile, policy: Policy, context: Context, facts: Facts, *, base_location: str | None, now: datetime
) -> Breaches:
    """What of `lock` the policy does not allow, each once."""
    packages = {package.pin: package for target in lock.targets for package in target.packages}
    facts.learn(list(packages.values()), ages=policy.minimum_age > 0, licences=policy.licences is not None)
    found = Breaches()
    for target in lock.targets:
        check = _Check(policy, facts, now, found.notes)
        for finding in check.of_base(target):
            found.findings.append(_at(finding, None, base_location))
        for at in context.each(target):
            found.findings += [_at(finding, at.position + 1, at.location) for finding in check.of_step(at)]
        for name, stage in target.locks_of_stages.items():
            inside = context.of_stage(name)
            found.findings += [_at(finding, None, None) for finding in check.of_base(stage)]
            for at in inside.each(stage):
                found.findings += [_at(finding, at.position + 1, at.location) for finding in check.of_step(at)]
    found.findings = list(dict.fromkeys(found.findings))
    return found


def unsigned(lockfile: Path, keys: Sequence[Path]) -> Finding | None:
    """What is wrong with the signature of a lockfile, by the settings' trusted keys."""
    from klock.signing import verify

    if not keys:
        return Finding(code=Code.POLICY_SIGNATURE, message="the settings name no trusted-keys")
    try:
        verify(lockfile, keys)
    except KlockError as error:
        return Finding(code=Code.POLICY_SIGNATURE, message=error.message)
    return None


def _at(finding: Finding, step: int | None, location: str | None) -> Finding:
    from dataclasses import replace

    return replace(finding, step=step, location=location)


@dataclass(frozen=True, slots=True)
class _Check:
    policy: Policy
    facts: Facts
    now: datetime
    notes: list[str]

    def of_base(self, lock: TargetLock) -> Iterator[Finding]:
        base = lock.base
        if isinstance(base, DebianLock):
            yield from self._debs(base.debs)
        elif not base.reference.startswith("oci:") and base.reference != "scratch":
            yield from self._image(base)

    def of_step(self, at: StepAt[StepLock]) -> Iterator[Finding]:
        kind = kind_of(at.step)
        if self.policy.no_keep_layer and kind.keeps_layer(at.step):
            yield Finding(code=Code.POLICY_LAYER, message=f"it keeps its layer: {at.text}")
        debs, urls = [], []
        for each in kind.fetched(at):
            if isinstance(each, LockedPackage):
                yield from self._package(each)
            elif isinstance(each, DebPackage):
                debs.append(each)
            else:
                urls.append(each.url)
        yield from self._debs(debs)
        yield from self._urls(urls)

    # -- where it is from

    def _image(self, base: OciLock) -> Iterator[Finding]:
        from klock.oci.reference import Reference

        reference = Reference.parse(base.reference)
        name = f"{reference.registry}/{reference.repository}"
        allowed = self.policy.registries
        if allowed is None:
            yield from self._hosts({reference.registry: f"the base {base.reference}"})
        elif not any(name == each or name.startswith(f"{each.rstrip('/')}/") for each in allowed):
            yield _source(
                f"the base {base.reference} is from {reference.registry}, which is not in the policy's registries"
            )

    def _debs(self, debs: Sequence[DebPackage]) -> Iterator[Finding]:
        archives = {deb.archive: deb.name for deb in debs}
        urls = {DEBIAN_ARCHIVES.get(archive, archive): name for archive, name in archives.items()}
        yield from self._hosts({_host(url): f"the archive {url} (of {name})" for url, name in urls.items()})

    def _urls(self, urls: Sequence[str]) -> Iterator[Finding]:
        yield from self._hosts({_host(url): url for url in reversed(urls)})

    def _hosts(self, named: dict[str, str]) -> Iterator[Finding]:
        """`named`: what is from each host."""
        allowed = self.policy.hosts
        for host, what in named.items() if allowed is not None else ():
            if not any(_matches(host, each) for each in allowed or ()):
                yield _source(f"{what} is from {host}, which is not in the policy's hosts")

    def _index(self, package: LockedPackage) -> Iterator[Finding]:
        what, allowed = f"{package.name} {package.version}", self.policy.indexes
        if package.index is None or package.index.startswith("file:"):
            url = getattr(package.artifact, "url", "")
            if url.startswith(("http:", "https:")):
                if self.policy.hosts is None and allowed is not None:
                    yield _source(f"{what} is from {url}, which is not in the policy's indexes")
                yield from self._hosts({_host(url): what})
        elif allowed is None:
            yield from self._hosts({_host(package.index): f"{what} of {package.index}"})
        elif package.index.rstrip("/") not in allowed:
            yield _source(f"{what} is from {package.index}, which is not in the policy's indexes")

    # -- what it is

    def _package(self, package: LockedPackage) -> Iterator[Finding]:
        yield from self._index(package)
        what = f"{package.name} {package.version}"
        if self.policy.no_sdists and isinstance(package.artifact, SdistArtifact | VcsArtifact):
            source = "a git repository" if isinstance(package.artifact, VcsArtifact) else package.artifact.name
            yield Finding(code=Code.POLICY_SDIST, message=f"{what} is built from {source}")
        if self.policy.minimum_age:
            yield from self._age(package, what)
        if self.policy.licences is not None:
            yield from self._licence(package, what, self.policy.licences)

    def _age(self, package: LockedPackage, what: str) -> Iterator[Finding]:
        uploaded = self.facts.uploaded(package)
        least = timedelta(hours=self.policy.minimum_age)
        if uploaded is None:
            self._note(f"the age of {what} is not known: `klock check --upstream` asks its index")
        elif self.now - uploaded < least:
            came = uploaded.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            words = f"{what} was uploaded at {came}; the policy allows it when it is {_age_in_words(least)} old"
            yield Finding(code=Code.POLICY_AGE, message=words)

    def _licence(self, package: LockedPackage, what: str, allowed: Sequence[str]) -> Iterator[Finding]:
        named = self.policy.licences_of.get(package.name)
        is_read, said = (True, named) if named is not None else self.facts.licence(package)
        if not is_read:
            self._note(f"the licence of {what} is not known: `klock check --upstream` or `klock sync` finds it out")
        elif said is None:
            words = f"{what} names no licence that klock knows; if you know it, add it to licences-of"
            yield Finding(code=Code.POLICY_LICENCE, message=words)
        elif not is_allowed(said, allowed):
            yield Finding(code=Code.POLICY_LICENCE, message=f"{what} has the licence {said}")

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _source(message: str) -> Finding:
    return Finding(code=Code.POLICY_SOURCE, message=message)


def _host(url: str) -> str:
    parts = urlsplit(url)
    return (parts.netloc.rpartition("@")[2] or url).lower()


def _matches(host: str, pattern: str) -> bool:
    """With a port only that port; without one any."""
    host, pattern = host.lower(), pattern.lower()
    if ":" not in pattern:
        host = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and ":" in host else host
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _age_in_words(least: timedelta) -> str:
    from klock.words import counted

    hours = int(least.total_seconds()) // 3600
    return counted(hours // 24, "day") if hours % 24 == 0 else counted(hours, "hour")
