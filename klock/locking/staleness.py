"""Whether a lockfile is stale: the image and the local files against what was locked. No network, no workshop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from klock.errors import StaleLockError
from klock.findings import Code, Finding
from klock.image.loading import LoadedImage
from klock.layers import NORMALISATION
from klock.lockfile.model import DEBIAN_RECIPE, DebianLock, Lockfile, TargetLock
from klock.locking.draft import base_agrees, draft_image, draft_steps
from klock.locking.stale import compare_image, compare_steps
from klock.project import Settings
from klock.store import Store
from klock.values import replace

__all__ = ["hint_for_credentials", "refuse_stale", "stale_findings"]


def stale_findings(
    lock: Lockfile, *, loaded: LoadedImage, settings: Settings, environ: Mapping[str, str], store: Store
) -> list[Finding]:
    """Every way in which the image and the local files are no longer what was locked.

    With `store`, files that did not change since the last time are not read again.
    """
    image = loaded.image
    findings = list(compare_image(draft_image(image, environ), lock.image))
    if settings.exclude_newer not in (None, lock.image.exclude_newer):
        words = f"exclude-newer is {settings.exclude_newer}, the lockfile has {lock.image.exclude_newer}"
        findings.append(Finding(code=Code.STALE_IMAGE, message=words))
    if lock.normalisation != NORMALISATION:
        words = f"the lockfile has version {lock.normalisation} of the layer rules, klock now has {NORMALISATION}"
        findings.append(Finding(code=Code.STALE_IMAGE, message=words))
    wanted = {str(target) for target in settings.targets}
    have = {str(locked.target) for locked in lock.targets}
    for name in sorted(wanted - have):
        findings.append(Finding(code=Code.STALE_TARGET, message=f"the target {name} is not in the lockfile"))
    as_loaded = loaded
    for locked in lock.targets:
        loaded = replace(as_loaded, image=as_loaded.image._for_platform(locked.target.platform))
        image = loaded.image
        if image.base is None or not base_agrees(image.base, locked.base):
            findings.append(
                Finding(code=Code.STALE_BASE, message="the base is not the locked one", location=loaded.base_location)
            )
        elif isinstance(locked.base, DebianLock) and locked.base.recipe != DEBIAN_RECIPE:
            old = f"version {locked.base.recipe} of the rules for Debian bases"
            words = f"the base has {old}, klock now has {DEBIAN_RECIPE}"
            findings.append(Finding(code=Code.STALE_BASE, message=words, location=loaded.base_location))
        findings += [f for f in _stages(locked, loaded, settings, environ, store) if f not in findings]
        drafts = draft_steps(
            image.steps,
            root=loaded.root,
            base=locked.base,
            target=locked.target,
            environ=environ,
            store=store,
            credential_files=settings.credential_files,
        )
        findings += [f for f in compare_steps(drafts, locked.steps, loaded.locations) if f not in findings]
    return findings


def _stages(
    lock: TargetLock, loaded: LoadedImage, settings: Settings, environ: Mapping[str, str], store: Store
) -> Iterator[Finding]:
    """Of the stages that files are taken from."""
    locked = {stage.name: stage for stage in lock.stages}
    wanted = {stage.name: stage for stage in loaded.image.stages}
    for name in sorted(locked.keys() ^ wanted.keys()):
        where = "in the lockfile, not in the image" if name in locked else "not in the lockfile"
        yield Finding(code=Code.STALE_STEP, message=f"the stage {name} is {where}")
    for name in (name for name in wanted if name in locked):
        stage, before = wanted[name], locked[name]
        if not base_agrees(stage.base, before.base):
            yield Finding(code=Code.STALE_BASE, message=f"the base of the stage {name} is not the locked one")
        drafts = draft_steps(
            stage.steps,
            root=loaded.root,
            base=before.base,
            target=lock.target,
            environ=environ,
            store=store,
            credential_files=settings.credential_files,
        )
        for finding in compare_steps(drafts, before.steps, loaded.locations_of_stages[name]):
            yield replace(finding, message=f"stage {name}: {finding.message}")


def refuse_stale(
    lock: Lockfile,
    *,
    loaded: LoadedImage,
    settings: Settings,
    environ: Mapping[str, str],
    store: Store,
    file: Path,
) -> None:
    """Raises StaleLockError with every finding when image and lockfile disagree; `file` is the lockfile's."""
    findings = stale_findings(lock, loaded=loaded, settings=settings, environ=environ, store=store)
    if findings:
        hint = "run `klock lock`; or use the lockfile as it is with --frozen"
        raise StaleLockError(
            f"{file.name} is stale:" + "".join(f"\n  {f}" for f in findings[:20]),
            hint=hint_for_credentials(lock, environ) or hint,
        )


def hint_for_credentials(lock: Lockfile, environ: Mapping[str, str]) -> str | None:
    """What to do first where the lockfile takes credentials from variables that are not set here: without them an image
    may well look like another one, and locking that would lose them."""
    names = {name for locked in lock.targets for name in locked.secrets if not environ.get(name)}
    if not names:
        return None
    return f"the lockfile takes a credential from {', '.join(sorted(names))}, not set here: export {min(names)}=..."
