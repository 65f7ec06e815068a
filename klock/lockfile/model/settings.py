"""How steps and containers run, as an image or a Dockerfile says it."""

from __future__ import annotations

from klock.values import dataclass

__all__ = ["HealthLock", "SettingsLock"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthLock:
    """A container's health check (OCI config, as docker has it); times in nanoseconds, 0 is the engine's default."""

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsLock:
    """What an instruction or a base image's config says about how steps and containers run. None means nothing.

    `user` is as in an OCI config, `shell` what shell commands are given to, `entrypoint` and `command` are words. The
    other names are docker's: labels, exposed ports, volumes, health check, stop signal, author, triggers. `home` is
    the user's home folder, as found when locking: what HOME is unless a variable says otherwise.
    """

    user: str | None = None
    home: str | None = None
    shell: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    labels: tuple[tuple[str, str], ...] = ()
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    health: HealthLock | None = None
    stop_signal: str | None = None
    author: str | None = None
    on_build: tuple[str, ...] = ()

    @property
    def start_command(self) -> tuple[str, ...]:
        """What a container runs that was started without a command."""
        return (*(self.entrypoint or ()), *(self.command or ()))

    def then(self, later: SettingsLock) -> SettingsLock:
        """These, and what `later` says over them."""
        return SettingsLock(
            user=self.user if later.user is None else later.user,
            home=self.home if later.home is None else later.home,
            shell=self.shell if later.shell is None else later.shell,
            entrypoint=self.entrypoint if later.entrypoint is None else later.entrypoint,
            command=self.command if later.command is None else later.command,
            labels=tuple({**dict(self.labels), **dict(later.labels)}.items()),
            ports=tuple(dict.fromkeys((*self.ports, *later.ports))),
            volumes=tuple(dict.fromkeys((*self.volumes, *later.volumes))),
            health=self.health if later.health is None else later.health,
            stop_signal=self.stop_signal if later.stop_signal is None else later.stop_signal,
            author=self.author if later.author is None else later.author,
            on_build=(*self.on_build, *later.on_build),
        )
