"""What steps say of how containers run, as instructions of an exported Dockerfile. What a base says it has itself."""

from __future__ import annotations

import json

from klock.lockfile.model import SettingsLock, TargetLock
from klock.pages.page import Form, Page, quoted

__all__ = ["settings_of_steps", "write_settings"]


def settings_of_steps(lock: TargetLock) -> SettingsLock:
    """All that the steps say together."""
    settings = SettingsLock()
    for step in lock.steps:
        if isinstance(step, SettingsLock):
            settings = settings.then(step)
    return settings


def write_settings(page: Page, lock: TargetLock) -> None:
    """All but user, entrypoint and command. kubetorch reads none of them."""
    if page.form is Form.KUBETORCH:
        return
    settings = settings_of_steps(lock)
    for name, value in settings.labels:
        page.add(f"LABEL {quoted(name)}={quoted(value)}")
    for port in settings.ports:
        page.add(f"EXPOSE {port}")
    if settings.volumes:
        page.add(f"VOLUME {json.dumps(list(settings.volumes), ensure_ascii=False)}")
    if settings.stop_signal is not None:
        page.add(f"STOPSIGNAL {settings.stop_signal}")
    if settings.shell is not None:
        page.add(f"SHELL {json.dumps(list(settings.shell), ensure_ascii=False)}")
    if (health := settings.health) is not None:
        kind, *test = health.test
        times = {"interval": health.interval, "timeout": health.timeout, "start-period": health.start_period}
        flags = [f"--{name}={value}ns" for name, value in times.items() if value]
        flags += [f"--retries={health.retries}"] if health.retries else []
        command = test[0] if kind == "CMD-SHELL" else json.dumps(test, ensure_ascii=False)
        page.add("HEALTHCHECK NONE" if kind == "NONE" else " ".join(["HEALTHCHECK", *flags, "CMD", command]))
    for trigger in settings.on_build:
        page.add(f"ONBUILD {trigger}")
