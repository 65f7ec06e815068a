"""`apt_install` in a Dockerfile: the locked .debs are shipped, so no archive has to have them still."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

from klock.debian.fetch import digest_of
from klock.debian.flat_repository import file_name
from klock.debian.install import fetch_debs
from klock.lockfile.model import AptLock
from klock.pages.build_context import ContextFile
from klock.pages.page import PLACE, Page
from klock.pages.sums import sums_script
from klock.steps.context import Context

__all__ = ["write_apt_step"]

# As when klock installs them: nothing else, no network, no caches; old configuration files stay.
_APT: Final = (
    "apt-get install --yes --no-install-recommends --allow-downgrades "
    "-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=/dev/null "
    "-o APT::Sandbox::User=root -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o Dpkg::Use-Pty=false "
    "-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold"
)
_POLICY: Final = "/usr/sbin/policy-rc.d"


def write_apt_step(page: Page, step: AptLock, *, folder: str, context: Context) -> None:
    """Adds the step; its .debs are below `folder` of the context. Raises FetchError, HashMismatch."""
    page.become("")
    named = [package.partition("=")[0].partition(":")[0] for package in step.packages]
    lines = ["set -eu"]
    if step.debs:
        fetch_debs(
            step.debs, store=context.store, mirrors=context.mirrors, offline=context.offline, progress=context.progress
        )
        place = f"{PLACE}/{folder}/debs"
        files = [
            ContextFile(
                path=f"{folder}/debs/{file_name(deb)}",
                source=context.store.find_blob(digest_of(deb)) or Path(deb.name),
                digest=digest_of(deb),
            )
            for deb in step.debs
        ]
        page.copy_folder(files, f"{folder}/debs", place)
        others = sorted({deb.name for deb in step.debs} - set(named))
        lines += [
            *sums_script((f"{place}/{file_name(deb)}", deb.sha256) for deb in step.debs),
            # No service is started while an image is made (invoke-rc.d(8)).
            f"[ -e {_POLICY} ] || {{ printf '#!/bin/sh\\nexit 101\\n' > {_POLICY}; chmod 0755 {_POLICY}; mine=1; }}",
            f"{_APT} {shlex.join(f'{place}/{file_name(deb)}' for deb in step.debs)}",
            f'[ -z "${{mine-}}" ] || rm -f {_POLICY}',
        ]
        if others:
            lines.append(f"apt-mark auto {shlex.join(others)} > /dev/null")
    lines.append(f"apt-mark manual {shlex.join(named)} > /dev/null")
    script = ContextFile(path=f"{folder}/install.sh", content="".join(f"{line}\n" for line in lines).encode())
    page.run_script(script, options={"leave-out": step.leave_out} if step.leave_out else {})
