"""How containers run, as instructions of an exported Dockerfile."""

from __future__ import annotations

import json

from klock.export.base import can_be_named
from klock.image.contents import health_line
from klock.lockfile.model import SettingsLock, TargetLock
from klock.pages.page import Form, Page

__all__ = ["settings_to_write", "write_settings"]


def settings_to_write(lock: TargetLock) -> SettingsLock:
    """The settings of all steps together, and of their base if FROM does not name it."""
    if not can_be_named(lock.base):
        return lock.settings
    settings = SettingsLock()
    for step in lock.steps:
        if isinstance(step, SettingsLock):
            settings = settings.then(step)
    return settings


def write_settings(page: Page, settings: SettingsLock) -> None:
    """All but user, entrypoint and command. kubetorch reads none of them."""
    if page.form is Form.KUBETORCH:
        return
    for name, value in settings.labels:
        page.add(f"LABEL {page.quoted(name, 'a label')}={page.quoted(value, f'the label {name}')}")
    for port in settings.ports:
        page.add(f"EXPOSE {port}")
    if settings.volumes:
        page.add(f"VOLUME {json.dumps(list(settings.volumes), ensure_ascii=False)}")
    if settings.stop_signal is not None:
        page.add(f"STOPSIGNAL {settings.stop_signal}")
    if settings.shell is not None:
        page.add(f"SHELL {json.dumps(list(settings.shell), ensure_ascii=False)}")
    if settings.author is not None:
        page.add(f"MAINTAINER {settings.author}")
    if settings.health is not None:
        page.add(health_line(settings.health))
    for trigger in settings.on_build:
        page.add(f"ONBUILD {trigger}")
