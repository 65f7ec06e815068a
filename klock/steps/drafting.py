"""What a step can see while its draft is made: the base, the variables so far, and where local files are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klock.lockfile.model import BaseLock, OciLock
from klock.secrets.credential_files import Treatment
from klock.store import Store
from klock.targets import Target
from klock.values import dataclass, field

# Who reads no Dockerfile needs nothing of it.
if TYPE_CHECKING:
    from klock.image.dockerfile.expansion import Expansion

__all__ = ["SHELL", "Drafting"]

SHELL: Final = ("/bin/sh", "-c")
"""What a Dockerfile's shell commands are given to, unless SHELL says otherwise."""


@dataclass(slots=True, kw_only=True)
class Drafting:
    """`root` is the image file's folder, `environ` where secrets are looked up. With `store`, local files that did not
    change since the last time are not read again.

    `variables` and `secrets` (names) grow from step to step. So does what else a Dockerfile's instructions set: `seen`,
    the variables with the build's arguments, `user`, `working_dir`, `shell`, and `named_shell` if the image itself
    named it. `used` names variables of `environ` that turned out to hold a credential. `notes` are what the user should
    know of what was found, and `credential_files` says what becomes of files that are credentials.
    """

    root: Path
    base: BaseLock
    target: Target
    environ: Mapping[str, str]
    store: Store | None = None
    used: frozenset[str] = frozenset()
    credential_files: Treatment = Treatment.WARN
    notes: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)

    seen: dict[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = "/"
    shell: tuple[str, ...] = SHELL
    named_shell: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.variables = dict(self.base.environment)
        self.seen = dict(self.base.environment)
        self.user, self.working_dir = self.base.user, self.base.working_dir
        if isinstance(self.base, OciLock) and self.base.settings is not None:
            self.shell = self.base.settings.shell or SHELL

    def expansion(self, escape: str, *, without: Iterable[str] = ()) -> Expansion:
        """What expands a Dockerfile's words here. References to credentials, `without`, stay as they are."""
        from klock.image.dockerfile.expansion import Expansion

        references = {name: f"${{{name}}}" for name in without}
        return Expansion(escape=escape, variables={**self.seen, **references})
