"""Finding out whether a lockfile is stale, for the verbs that need to know."""

from __future__ import annotations

from klock.commands.session import Session
from klock.draft import base_agrees, draft_image, draft_steps
from klock.errors import StaleLockError
from klock.findings import Code, Finding
from klock.layers import NORMALISATION
from klock.lockfile.model import EnvLock, Lockfile
from klock.stale import compare_image, compare_steps
from klock.words import listed

__all__ = ["hint_for_credentials", "line_of", "refuse_stale", "stale_findings"]


def stale_findings(session: Session, lock: Lockfile) -> list[Finding]:
    """Every way in which the image and the local files are no longer what was locked. No network, no engine."""
    image = session.loaded.image
    findings = list(compare_image(draft_image(image, session.environ), lock.image))
    if lock.normalisation != NORMALISATION:
        words = f"the lockfile's layers follow the rules of version {lock.normalisation}, klock's are {NORMALISATION}"
        findings.append(Finding(code=Code.STALE_IMAGE, message=words))
    wanted = {str(target) for target in session.settings.targets}
    have = {str(locked.target) for locked in lock.targets}
    for name in sorted(wanted - have):
        findings.append(Finding(code=Code.STALE_TARGET, message=f"the target {name} is not in the lockfile"))
    for locked in lock.targets:
        if image.base is None or not base_agrees(image.base, locked.base):
            location = session.base_location
            findings.append(Finding(code=Code.STALE_BASE, message="the base is not the locked one", location=location))
        drafts = draft_steps(
            image.steps, root=session.loaded.root, base=locked.base, environ=session.environ, store=session.store
        )
        findings += [f for f in compare_steps(drafts, locked.steps, session.locations) if f not in findings]
    return findings


def refuse_stale(session: Session, lock: Lockfile) -> None:
    """Raises StaleLockError with the findings when image and lockfile disagree."""
    findings = stale_findings(session, lock)
    if findings:
        hint = "run `klock lock`; or use --frozen to go on with what was locked"
        raise StaleLockError(
            f"{session.lockfile.name} is stale:" + listed(map(line_of, findings)),
            hint=hint_for_credentials(session, lock) or hint,
        )


def hint_for_credentials(session: Session, lock: Lockfile) -> str | None:
    """What to do first where the lockfile takes credentials from variables that are not set here: without them an image
    may well look like another one, and locking that would lose them."""
    names = {
        name
        for locked in lock.targets
        for step in locked.steps
        for holder in ([*step.variables] if isinstance(step, EnvLock) else [step])
        for name in getattr(holder, "secrets", ())
        if not session.environ.get(name)
    }
    if not names:
        return None
    return f"the lockfile takes a credential from {', '.join(sorted(names))}, not set here: export {min(names)}=..."


def line_of(finding: Finding) -> str:
    """A finding as a line for people: where, then what."""
    step = f"step {finding.step}" if finding.step else ""
    where = f"{step} ({finding.location})" if step and finding.location else step or finding.location or ""
    return f"{where}: {finding.message}" if where else finding.message
