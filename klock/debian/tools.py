"""Which of some packages must be unpacked before any can be installed: dpkg, apt, and what these and all others rely on
without saying so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from klock.debian.deb import Deb
from klock.errors import ImageError

__all__ = ["tools_among"]

_INSTALLERS = ("dpkg", "apt")
_FIRST = ("base-passwd", "base-files")
"""Their scripts make the users and the folders that others expect (as in debootstrap)."""


def tools_among(debs: Sequence[Deb]) -> tuple[Deb, ...]:
    """The essential packages, those of priority required, dpkg and apt, with all that they depend on among `debs`.

    Where a dependency has alternatives, every one of `debs` that fulfils it is among them: the answer depends on
    nothing but `debs`, and to be unpacked early harms no package. In the order to install them. Raises ImageError when
    the programs that install are missing.
    """
    named: dict[str, list[Deb]] = defaultdict(list)
    for deb in debs:
        for name in {deb.package.name, *deb.provides}:
            named[name].append(deb)
    own_names = {deb.package.name for deb in debs}
    if missing := [name for name in _INSTALLERS if name not in own_names]:
        raise ImageError(f"a Debian base cannot be made without {' and '.join(missing)}", hint="lock again")
    waiting = [d for d in debs if d.is_essential or d.is_required or d.package.name in _INSTALLERS]
    found: dict[str, Deb] = {}
    while waiting:
        deb = waiting.pop()
        if found.setdefault(deb.package.sha256, deb) is deb:
            waiting += [
                other
                for clause in deb.needs
                for name in clause
                for other in named[name]
                if other.package.sha256 not in found
            ]
    return tuple(sorted(found.values(), key=_order))


def _order(deb: Deb) -> tuple[int, str, str]:
    name = deb.package.name
    return _FIRST.index(name) if name in _FIRST else len(_FIRST), name, deb.package.sha256
