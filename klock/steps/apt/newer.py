"""Which versions the packages of an apt step could have now: asked of the environment's own apt."""

from __future__ import annotations

from collections.abc import Iterator

from klock.debian.apt_in_environment import AptInEnvironment
from klock.lockfile.model import AptLock
from klock.steps.apt import SOURCES
from klock.steps.at import StepAt
from klock.steps.newer import Looking, Newer
from klock.steps.parts import Sort
from klock.targets import Target

__all__ = ["newer_debs"]


def newer_debs(at: StepAt[AptLock], looking: Looking) -> Iterator[Newer]:
    """What the step installs and its sources have another version of. Only where base and layers below are here: to
    bring them would take longer than anybody waits for such an answer."""
    context, step = looking.context, at.step
    if not step.debs:
        return
    workshop = context.workshop
    if at.lock.target.platform != Target.of_this_machine().platform:
        looking.note(f"{at.name}: its Debian packages were not looked at: its apt does not run on this machine")
        return
    if not workshop.has_base(at.lock.base.id) or not all(map(workshop.has_layer, at.below)):
        looking.note(f"{at.name}: its Debian packages were not looked at: run `klock sync`, which brings its apt here")
        return
    with workshop.open(at.lock.base.id, at.below) as workspace:
        sources = workspace.read_matching(SOURCES).values()
        apt = AptInEnvironment(
            workspace=workspace,
            environment=at.open_variables(context.environ),
            store=context.store,
            mirrors=context.mirrors,
            where=f"{at.name}: ",
            passes=context.passes(at.before, settings=[text.decode("utf-8", "replace") for text in sources]),
        )
        known = apt.policy([deb.name for deb in step.debs])
    pinned = {name for name, equals, _ in (package.partition("=") for package in step.packages) if equals}
    for deb in step.debs:
        candidate, newest = known.get(deb.name, (None, None))
        admitted = deb.version if deb.name in pinned else candidate
        yield Newer(sort=Sort.DEB, name=deb.name, locked=deb.version, admitted=admitted, newest=newest)
