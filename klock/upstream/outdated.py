"""What of a lockfile has a newer version upstream: what is locked, what the image's words admit, the newest of all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from klock.asking import Asker
from klock.errors import KlockError
from klock.image.builder import Image
from klock.inventory.holdings import base_in_words
from klock.inventory.reasons import Lines, where
from klock.lockfile.model import DebianLock, Lockfile, OciLock, TargetLock
from klock.steps import kind_of
from klock.steps.context import Context
from klock.steps.newer import Looking, Newer
from klock.steps.parts import Sort
from klock.values import dataclass
from klock.words import counted

__all__ = ["Outdated", "Outlook", "look_for_newer"]

_TITLES = {Sort.BASE: "Base", Sort.PACKAGE: "Python packages", Sort.DEB: "Debian packages"}
_HEADINGS = ("", "locked", "admitted", "newest")
_SHORT = 19
"""How much of a digest is shown: the word sha256 and 12 digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outdated:
    """A part with a newer version, and the base or step that brings it, in words. `targets` are those that it is about,
    where that is not all."""

    newer: Newer
    where: str
    targets: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        newer = self.newer
        return {
            "sort": newer.sort.value,
            "name": newer.name,
            "locked": newer.locked,
            "admitted": newer.admitted,
            "newest": newer.newest,
            "where": self.where,
            "targets": list(self.targets),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """All that is `outdated` of the `looked_at` parts. `notes` say what could not be found out."""

    outdated: tuple[Outdated, ...]
    looked_at: int
    notes: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """A table for each sort, its columns below `locked`, `admitted` and `newest`."""
        for sort, title in _TITLES.items():
            rows = [_row(each) for each in self.outdated if each.newer.sort is sort]
            if not rows:
                continue
            table = [(title, *_HEADINGS[1:], ""), *rows]
            widths = [max(len(row[column]) for row in table) for column in range(len(_HEADINGS))]
            for row in table:
                cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
                yield "  ".join([*cells, row[-1]]).rstrip()

    @property
    def summary(self) -> str:
        """`2 of 14 parts have a newer version`"""
        number = len(self.outdated)
        verb = "has" if number == 1 else "have"
        limits = ", as far as upstream could be asked" if self.notes else ""
        return f"{number or 'none'} of {counted(self.looked_at, 'part')} {verb} a newer version{limits}"

    def to_json(self) -> dict[str, object]:
        return {"outdated": [each.to_json() for each in self.outdated], "notes": list(self.notes)}


def look_for_newer(lock: Lockfile, image: Image, lines: Lines, context: Context, asker: Asker) -> Outlook:
    """Asks upstream about every target of `lock`; raises nothing for what cannot be asked, which is in the notes."""
    looking = Looking(image=image, image_lock=lock.image, context=context, asker=asker)
    found: dict[tuple[Newer, str], list[str]] = {}
    for locked in lock.targets:
        for newer, place in _of_target(locked, looking, lines):
            found.setdefault((newer, place), []).append(str(locked.target))
    order = list(Sort)
    outdated = [
        Outdated(newer=newer, where=place, targets=() if len(targets) == len(lock.targets) else tuple(targets))
        for (newer, place), targets in found.items()
        if newer.is_outdated
    ]
    return Outlook(
        outdated=tuple(sorted(outdated, key=lambda each: (order.index(each.newer.sort), each.newer.name))),
        looked_at=len(found),
        notes=tuple(dict.fromkeys([*looking.notes, *asker.all_notes])),
    )


def _of_target(lock: TargetLock, looking: Looking, lines: Lines) -> Iterator[tuple[Newer, str]]:
    yield from _of_base(lock, looking, where(None, lock, lines))
    yield from _of_steps(lock, looking, lines)
    for name, stage in lock.locks_of_stages.items():
        inside = replace(looking, context=looking.context.of_stage(name))
        of_stage = Lines(steps=inside.context.locations)
        yield from _of_base(stage, inside, f"stage {name}: {where(None, stage, of_stage)}")
        yield from ((newer, f"stage {name}: {place}") for newer, place in _of_steps(stage, inside, of_stage))


def _of_steps(lock: TargetLock, looking: Looking, lines: Lines) -> Iterator[tuple[Newer, str]]:
    for at in looking.context.each(lock):
        try:
            for newer in kind_of(at.step).newer(at, looking):
                yield newer, where(at.position, lock, lines)
        except KlockError as error:
            looking.note(f"{at.name}: {error.message}")


def _of_base(lock: TargetLock, looking: Looking, place: str) -> Iterator[tuple[Newer, str]]:
    base = lock.base
    try:
        found = _image_now(base, lock, looking) if isinstance(base, OciLock) else _debs_now(base, lock, looking)
        yield from ((newer, place) for newer in found)
    except KlockError as error:
        looking.note(f"{place}: {error.message}")


def _image_now(base: OciLock, lock: TargetLock, looking: Looking) -> Iterator[Newer]:
    from klock.bases.newest import look_at_base

    context = looking.context
    now = looking.shared(
        (base.reference, lock.target.platform),
        lambda: look_at_base(
            base,
            target=lock.target,
            root=context.root,
            mirrors=context.mirrors,
            asker=looking.asker,
            with_tags=True,
        ),
    )
    if now is not None:
        yield Newer(
            sort=Sort.BASE,
            name=base_in_words(lock),
            locked=now.locked,
            admitted=now.digest,
            newest=now.newer_tag or now.digest,
        )


def _debs_now(base: DebianLock, lock: TargetLock, looking: Looking) -> Iterator[Newer]:
    from klock.debian.newest import newest_in_suite

    context = looking.context
    newest = looking.shared(
        (base.suite, base.debs),
        lambda: newest_in_suite(
            base.suite,
            [deb.name for deb in base.debs],
            architecture=lock.target.architecture,
            mirrors=context.mirrors,
            store=context.store,
            asker=looking.asker,
        ),
    )
    for deb in base.debs:
        version = newest.get(deb.name)
        yield Newer(sort=Sort.DEB, name=deb.name, locked=deb.version, admitted=version, newest=version)


def _row(each: Outdated) -> tuple[str, str, str, str, str]:
    newer = each.newer
    only = f" ({', '.join(each.targets)} only)" if each.targets else ""
    shown = [text[:_SHORT] if text.startswith("sha256:") else text for text in _versions(newer)]
    return (f"  {newer.name}", shown[0], shown[1], shown[2], each.where + only)


def _versions(newer: Newer) -> tuple[str, str, str]:
    return newer.locked, newer.admitted or "?", newer.newest or "?"
