"""Ray's workers in the locked environment: a plugin for Ray's `runtime_env`, and a comparison of all nodes.

    RAY_RUNTIME_ENV_PLUGINS='[{"class": "klock.ray.KlockPlugin"}]' ray start --head     # on every node

    ray.init(runtime_env={"working_dir": ".", "klock": "kimage.lock"})
    klock.ray.assert_same_environment()

It uses klock as any other program would, and no other room knows of it. Ray is imported when it is used, not before.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from klock.ray.barrier import NodesDiffer, assert_same_environment

    KlockPlugin: type

__all__ = ["KlockPlugin", "NodesDiffer", "assert_same_environment"]


def __getattr__(name: str) -> Any:
    if name == "KlockPlugin":
        return _plugin_class()
    if name in ("NodesDiffer", "assert_same_environment"):
        from klock.ray import barrier

        return getattr(barrier, name)
    raise AttributeError(f"module 'klock.ray' has no attribute {name!r}")


@functools.cache
def _plugin_class() -> type:
    """Ray wants a class that inherits from its own, which is there only where Ray is."""
    from ray._private.runtime_env.plugin import RuntimeEnvPlugin

    from klock.ray.plugin import Plugin

    return type("KlockPlugin", (Plugin, RuntimeEnvPlugin), {"__module__": __name__, "__doc__": Plugin.__doc__})
