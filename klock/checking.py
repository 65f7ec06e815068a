"""What `check` finds out, from every source there is: the image, policy, upstream, advisories, the environment. `lock`
asks the policy, too."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from klock.errors import KlockError
from klock.outcomes import Checked

# `lock` looks here for the policy alone, and a check of the image alone asks nobody.
if TYPE_CHECKING:
    from klock.asking import Asker
    from klock.findings import Finding
    from klock.lockfile.model import Lockfile
    from klock.policy.checking import Breaches
    from klock.replay.goal import Goal
    from klock.session import Session

__all__ = ["check", "refuse_breaches"]


def check(
    session: Session,
    *,
    environment: bool,
    container: str | None,
    upstream: bool,
    vault: str | None,
    advisories: Path | None,
    seconds: float,
    target: str | None,
    deep: bool,
    trust_store: bool,
) -> Checked:
    """The work of `klock.Project.check`, whose options these are."""
    from klock.locking.staleness import hint_for_credentials

    lockfile = session.read_lockfile()
    findings, hints = session.stale_findings(lockfile), list[str]()
    found, notes = _moved(session, lockfile, vault, seconds) if upstream else _against_policy(session, lockfile, None)
    findings += found
    if advisories is not None:
        found, said = _advised(session, lockfile, advisories)
        findings += [each for each in found if not _is_told(each, findings)]
        notes += said
    if environment or container is not None:
        goal = session.goal(lockfile, session.locked_target(lockfile, target))
        found, hints = _drifted(session, goal, container, deep=deep, trust_store=trust_store)
        findings += found
    if findings and (hint := hint_for_credentials(lockfile, session.environ)):
        hints.append(hint)
    return Checked(lockfile=lockfile, findings=tuple(findings), hints=tuple(hints), notes=tuple(dict.fromkeys(notes)))


def _drifted(
    session: Session, goal: Goal, container: str | None, *, deep: bool, trust_store: bool
) -> tuple[list[Finding], list[str]]:
    """Where the environment is not its goal, and what to do first."""
    from klock.drift import compare, with_steps
    from klock.forks import Tally

    place = session.place_of(goal, by_notes=trust_store)
    if container is not None and not place.has_containers:
        raise KlockError(
            "--container needs the engine podman or docker",
            hint="name the engine: --engine podman --container NAME",
        )
    if trust_store and (deep or place.converges):
        other = "a deep check reads every file" if deep else "--here has no files in the store"
        raise KlockError(f"the store cannot be trusted here: {other}", hint="leave out --trust-store")
    if deep:
        session.progress.begin("read every file of the environment")
    tally = Tally("paths")
    with session.store.in_use(), session.progress.stage("hash", tally):
        observation = place.observe(goal, container=container, deep=deep, tally=tally)
    if deep:
        session.progress.done("compared")
    drift = compare(observation, leave_out=goal.lock.leave_out)
    in_files = any(finding.code.is_about_files for finding in drift)
    if in_files and container is None and not place.converges and place.is_clean(goal.name):
        hints = ["the store was changed, not the environment: run `klock cache clean`, then `klock sync`"]
    else:
        hints = []
    return with_steps(drift, goal.lock, session.loaded.locations), hints


def _breaches(session: Session, lockfile: Lockfile, asker: Asker | None = None) -> Breaches | None:
    """What of a lockfile the project's policy does not allow; None where there is no policy. With `asker` what is
    not known of its packages is asked."""
    if not session.settings.policy:
        return None
    from datetime import UTC, datetime

    from klock.lockfile.model import PipLock
    from klock.policy.checking import breaches as breaches_of
    from klock.policy.facts import Facts
    from klock.steps.pip.credentials import index_credentials

    context = session.context
    steps = [at for locked in lockfile.targets for at in context.each(locked) if isinstance(at.step, PipLock)]
    facts = Facts(store=session.store, credentials=index_credentials(steps, context), asker=asker)
    return breaches_of(
        lockfile,
        session.settings.policy,
        context,
        facts,
        base_location=session.loaded.base_location,
        now=datetime.now(UTC),
    )


def refuse_breaches(session: Session, lockfile: Lockfile) -> None:
    """Raises PolicyError for what the project's policy does not allow to be locked. Its signature comes later."""
    from klock.asking import Asker
    from klock.errors import PolicyError
    from klock.findings import Code
    from klock.words import counted, listed

    asker = Asker(session.store, ca_bundle=session.ca_bundle, seconds=60, offline=session.offline)
    try:
        found = _breaches(session, lockfile, asker)
    finally:
        asker.close()
    if found is None:
        return
    for note in dict.fromkeys([*asker.notes, *found.notes]):
        session.progress.warn(note)
    if found.findings:
        lines = listed(f"{finding.code.value}: {finding}" for finding in found.findings)
        hint = "change the image, or [tool.klock.policy] in pyproject.toml"
        if any(finding.code is Code.POLICY_AGE for finding in found.findings):
            hint += "; to lock older packages: klock lock --exclude-newer DATE"
        raise PolicyError(f"the policy does not allow {counted(len(found.findings), 'thing')}:{lines}", hint=hint)


def _moved(session: Session, lockfile: Lockfile, vault: str | None, seconds: float) -> tuple[list[Finding], list[str]]:
    """What upstream says, and what it could not be asked."""
    from klock.asking import Asker
    from klock.upstream.advisories import from_indexes, locked_in
    from klock.upstream.moved import Keepers, moved_findings
    from klock.vault import open_vault

    context, base = session.context, session.loaded.base_location
    opened = None if vault is None else open_vault(vault, mirrors=context.mirrors, writes=False)
    if opened is not None:
        opened.check()
    keepers = Keepers.of_lock(lockfile, context, opened)
    asker = Asker(session.store, ca_bundle=session.ca_bundle, seconds=seconds, offline=session.offline)
    session.progress.begin("ask upstream")
    try:
        found = moved_findings(lockfile, context, asker, keepers, base_location=base)
        packages = locked_in(lockfile, context, base_location=base, note=asker.note)
        found += from_indexes(lockfile, packages, asker)
        breaches, notes = _against_policy(session, lockfile, asker)
        found += breaches
    finally:
        asker.close()
    session.progress.done("asked")
    return found, [*asker.all_notes, *notes]


def _against_policy(session: Session, lockfile: Lockfile, asker: Asker | None) -> tuple[list[Finding], list[str]]:
    """What the policy does not allow of a lockfile that is there, and what could not be found out."""
    found = _breaches(session, lockfile, asker)
    if found is None:
        return [], []
    findings = found.findings
    if session.settings.policy.signed:
        from klock.policy.checking import unsigned

        finding = unsigned(session.lockfile, session.settings.trusted_keys)
        findings = findings if finding is None else [*findings, finding]
    return findings, found.notes


def _advised(session: Session, lockfile: Lockfile, folder: Path) -> tuple[list[Finding], list[str]]:
    from klock.upstream.advisories import from_folder, locked_in

    notes = list[str]()
    packages = locked_in(lockfile, session.context, base_location=session.loaded.base_location, note=notes.append)
    return list(from_folder(folder, packages, notes.append)), notes


def _is_told(finding: Finding, others: Iterable[Finding]) -> bool:
    """Whether another source has told of this vulnerability of the package."""
    package = finding.message.partition(":")[0]
    return any(
        other.code is finding.code
        and other.message.startswith(f"{package}:")
        and (finding.found or "-") in other.message
        for other in others
    )
