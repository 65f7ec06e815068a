"""Takes times out of what pnpm notes of its store and of `node_modules`.

Formats: pnpm's `store/cafs/src/getFilePathInCafs.ts` (an index of the files of a package, JSON) and
`pkg-manager/modules-yaml` (`.modules.yaml`, YAML or JSON).
"""

from __future__ import annotations

import re
import time
from typing import Final

__all__ = ["index_without_times", "modules_without_time"]

_INDEX: Final = re.compile(rb"\A\{.*\"files\":\{.*\}\s*\Z", re.DOTALL)
_CHECKED: Final = re.compile(rb"(?<=\"checkedAt\":)\d{12,13}(?=[,}])")
_PRUNED: Final = re.compile(rb"(?m)(?<=prunedAt)(\"?: \"?)\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT(?=\"?,?$)")


def index_without_times(index: bytes, *, seconds: int) -> bytes:
    """The index as if its files were last checked `seconds` after 1970; what is not an index comes back unchanged."""
    return _CHECKED.sub(b"%d000" % seconds, index) if _INDEX.match(index) else index


def modules_without_time(notes: bytes, *, seconds: int) -> bytes:
    """The notes as if packages were last pruned `seconds` after 1970; what has no such time comes back unchanged."""
    when = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds)).encode("ascii")
    return _PRUNED.sub(rb"\g<1>" + when, notes)
