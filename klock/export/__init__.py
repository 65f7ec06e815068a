"""Export: a locked environment in the formats of other tools, for places where klock is not.

TargetLock --dockerfile--> Page (instructions, and files beside them) --context--> a folder to build in

What a Dockerfile can pin is pinned: the base by digest, packages and files by hash. What a shell step fetches it cannot
pin, and the file says so. What is built from it is not the locked image to the byte: `klock sync --engine` makes that.
"""

from __future__ import annotations

from klock.export.base import can_be_named
from klock.export.dockerfile import Exported, export_dockerfile
from klock.pages.build_context import ContextFile, write_context
from klock.pages.page import Form

__all__ = ["ContextFile", "Exported", "Form", "can_be_named", "export_dockerfile", "write_context"]
