"""A target with its base, its steps and its packages; and the lockfile of all of them."""

from __future__ import annotations

from collections.abc import Mapping

from klock.digests import Digest, digest_of_json
from klock.lockfile.model.bases import BaseLock, Interpreter, OciLock
from klock.lockfile.model.layers import LockedVariable
from klock.lockfile.model.packages import LockedPackage
from klock.lockfile.model.settings import SettingsLock
from klock.lockfile.model.steps import ServiceLock, StepLock, WorkdirLock, layer_of
from klock.targets import Target
from klock.values import dataclass, replace

__all__ = ["ImageLock", "Lockfile", "OciImage", "StageLock", "TargetLock", "Triggers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Triggers:
    """The instructions that a base image, by its name in FROM, has for those who build on it (ONBUILD)."""

    base: str
    instructions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLock:
    """What the image says besides its base and steps, and what it was locked with.

    `context` is the build context of its Dockerfile, from the folder of that file, where it is another one;
    `build_args` are the arguments that were given for it, and `triggers` those of its bases, which are among its steps.
    Files that came to a package index after the moment
    `exclude_newer` (RFC 3339) did not count.
    """

    name: str | None = None
    python_path: str | None = None
    install_cmd: str | None = None
    context: str | None = None
    build_args: tuple[LockedVariable, ...] = ()
    triggers: tuple[Triggers, ...] = ()
    exclude_newer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLock:
    """A stage of a Dockerfile, or an image, that files are taken from: an image of its own, in a name."""

    name: str
    base: BaseLock
    steps: tuple[StepLock, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OciImage:
    """The manifest of a target as an OCI image (`klock.registry.made`): its digest and its `size` in bytes, where the
    steps' layers are compressed by the rule `compression`."""

    digest: Digest
    size: int
    compression: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetLock:
    """Everything one target's environment is made of. `stages` are those that its steps take files from, each after
    those that it takes files from itself. `oci_image` follows from the rest, and is here only when it was asked for."""

    target: Target
    base: BaseLock
    interpreter: Interpreter | None
    steps: tuple[StepLock, ...]
    packages: tuple[LockedPackage, ...]
    stages: tuple[StageLock, ...] = ()
    oci_image: OciImage | None = None

    @property
    def locks_of_stages(self) -> dict[str, TargetLock]:
        """Each stage as a target of its own, by its name."""
        return {
            stage.name: TargetLock(
                target=self.target,
                base=stage.base,
                interpreter=None,
                steps=stage.steps,
                packages=(),
                stages=self.stages[:number],
            )
            for number, stage in enumerate(self.stages)
        }

    @property
    def layers(self) -> tuple[Digest, ...]:
        """The digests of the steps' layers, in order."""
        return tuple(layer.digest for step in self.steps if (layer := layer_of(step)) is not None)

    @property
    def variables(self) -> tuple[LockedVariable, ...]:
        """What the steps set, in order; the last of a name holds."""
        return tuple(v for step in self.steps for v in getattr(step, "variables", ()))

    @property
    def services(self) -> tuple[ServiceLock, ...]:
        """What runs beside each command, in order."""
        return tuple(step for step in self.steps if isinstance(step, ServiceLock))

    @property
    def environment(self) -> dict[str, str]:
        """The environment's variables, secrets still as references."""
        return {**self._of_base, **{v.name: v.value for v in self.variables}}

    @property
    def _of_base(self) -> dict[str, str]:
        """The variables of the base, and the home of the user, unless the base says which that is."""
        home, found = self.settings.home, dict(self.base.environment)
        if home is None:
            return found
        is_said = isinstance(self.base, OciLock) and (self.base.settings is not None or self.base.has_home)
        return {"HOME": home, **found} if is_said or "HOME" not in found else {**found, "HOME": home}

    @property
    def seen_variables(self) -> tuple[LockedVariable, ...]:
        """What a next step's commands see besides the base's variables: arguments of the build too."""
        found = ((*getattr(step, "variables", ()), *getattr(step, "arguments", ())) for step in self.steps)
        return tuple(variable for variables in found for variable in variables)

    @property
    def seen_environment(self) -> dict[str, str]:
        """The variables that a next step's commands see, secrets still as references."""
        return {**self._of_base, **{v.name: v.value for v in self.seen_variables}}

    @property
    def settings(self) -> SettingsLock:
        """What base and steps say of how steps and containers run."""
        settings = (isinstance(self.base, OciLock) and self.base.settings) or SettingsLock()
        # What a base has for those who build on it is among the steps, and not for those who build on them.
        settings = replace(settings, on_build=())
        for step in self.steps:
            if isinstance(step, SettingsLock):
                settings = settings.then(step)
        return settings

    @property
    def user(self) -> str:
        """Whom steps and containers run as from here on."""
        user = self.settings.user
        return self.base.user if user is None else user

    @property
    def written_working_dir(self) -> str:
        """The working directory for an image's config. docker writes it there as the Dockerfile does (`/app/`)."""
        for step in reversed(self.steps):
            if isinstance(step, WorkdirLock):
                return step.written or step.working_dir
        return self.base.working_dir

    @property
    def working_dir(self) -> str:
        """Where they begin."""
        found = (getattr(step, "working_dir", None) for step in reversed(self.steps))
        return next((path for path in found if path is not None), self.base.working_dir)

    @property
    def public_environment(self) -> dict[str, str]:
        """The environment's variables without those that hold a secret."""
        variables = self._of_base
        for variable in self.variables:
            if variable.secrets:
                variables.pop(variable.name, None)
            else:
                variables[variable.name] = variable.value
        return variables

    @property
    def secrets(self) -> frozenset[str]:
        """Names whose values replay takes from the process environment."""
        steps = (*self.steps, *(step for stage in self.stages for step in stage.steps))
        return frozenset(name for step in steps for name in getattr(step, "secrets", ()))

    @property
    def leave_out(self) -> tuple[str, ...]:
        """Patterns of paths that steps leave out of their layers."""
        return tuple(pattern for step in self.steps for pattern in getattr(step, "leave_out", ()))

    @property
    def packages_by_pin(self) -> Mapping[str, LockedPackage]:
        return {package.pin: package for package in self.packages}

    @property
    def fingerprint(self) -> Digest:
        """The environment in one digest: base, layers and variables, the same in every place."""
        from klock.lockfile.codec import encode

        parts: dict[str, object] = {
            "base": self.base.id,
            "layers": list(self.layers),
            "environment": sorted(self.environment.items()),
            "working_dir": self.working_dir,
            "user": self.user,
        }
        if settings := encode(replace(self.settings, user=None, home=None)):
            parts["settings"] = settings
        return digest_of_json(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lockfile:
    image: ImageLock
    normalisation: int
    targets: tuple[TargetLock, ...]

    def __repr__(self) -> str:
        """Only its targets, for notebooks and tracebacks: all of it would be as long as the file."""
        return f"<Lockfile of {', '.join(f'{each.target} {each.fingerprint}' for each in self.targets)}>"

    def for_target(self, target: Target) -> TargetLock | None:
        return next((t for t in self.targets if t.target == target), None)
