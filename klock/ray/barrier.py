"""Whether all nodes of a cluster have one environment: each compares its own with the lockfile, file by file."""

from __future__ import annotations

import os
import platform
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from klock.digests import Digest, digest_of_bytes
from klock.errors import KlockError
from klock.ray.node import answer, command
from klock.ray.plugin import NAME, OUTSIDE, lockfile_of_node
from klock.ray.worker import ENVIRONMENT
from klock.words import counted

__all__ = ["NodeState", "NodesDiffer", "assert_same_environment", "differences", "wrong_workers"]

_MOST: Final = 20
_OUTSIDE: Final = "its workers run in no environment: start Ray there with RAY_RUNTIME_ENV_PLUGINS"


class NodesDiffer(KlockError):
    """The environment is not the same on every node. The message names the nodes and paths that differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """What a node answered. Of a check: the `digest` of its lockfile, the `fingerprint` of what is locked, and in
    `findings` where its environment differs. Of a worker: the fingerprint of the environment that it is `inside`, None
    for no environment. `problem` says why there is no answer."""

    node: str
    digest: Digest = ""
    fingerprint: Digest = ""
    inside: Digest | None = None
    findings: tuple[str, ...] = ()
    problem: str = ""


def assert_same_environment(
    lockfile: str | os.PathLike[str] | None = None, *, deep: bool = False, seconds: float = 600
) -> Digest:
    """Waits until every node of the cluster has the environment, and compares it on each with the lockfile.

    Then a worker starts on each. Returns the fingerprint that all have. `lockfile` is by default that of the job's
    runtime_env. With `deep` every file is read. A node has `seconds` for each answer. Raises NodesDiffer with node and
    path of each difference, KlockError when the job has no lockfile.
    """
    import ray

    value = os.fspath(lockfile) if lockfile is not None else ray.get_runtime_context().runtime_env.get(NAME)
    if not value:
        raise KlockError(
            "this job's runtime_env names no lockfile", hint='ray.init(runtime_env={"klock": "kimage.lock"})'
        )
    variable = ENVIRONMENT

    # Sent along with its code, as klock is not in the environment.
    def look_inside() -> dict[str, Any]:
        import os

        return {"inside": os.environ.get(variable)}

    # An environment cannot vouch for itself, so the check runs outside of it.
    states = _on_each_node(_look, OUTSIDE, value, deep, seconds=seconds)
    _refuse(differences(states, expected=_digest_here(value)))
    # This comes second: in a wrong environment a worker may not start at all, and Ray would go on trying.
    workers = _on_each_node(look_inside, value, seconds=seconds)
    _refuse(wrong_workers(workers, states[0].fingerprint))
    return states[0].fingerprint


def _on_each_node(
    look: Callable[..., Mapping[str, Any]], environment: str, *arguments: object, seconds: float
) -> list[NodeState]:
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0, runtime_env={NAME: environment})(look)
    asked = {}
    for node in ray.nodes():
        if node["Alive"]:
            where = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
            name = f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"
            asked[name] = task.options(scheduling_strategy=where).remote(*arguments)
    states = []
    for name, answered in asked.items():
        try:
            states.append(NodeState(node=name, **ray.get(answered, timeout=seconds)))
        except RayError as error:
            states.append(NodeState(node=name, problem=f"did not answer: {error}"))
    return states


def _refuse(found: str) -> None:
    if found:
        raise NodesDiffer(
            f"the environment is not the same on every node:\n{found}",
            hint="stop what writes there, and restart Ray on that node: its environment is then made anew",
        )


def _digest_here(value: str) -> Digest | None:
    """The digest of the driver's own lockfile, if it has one."""
    try:
        return digest_of_bytes(Path(value).read_bytes())
    except OSError:
        return None


def differences(states: list[NodeState], *, expected: Digest | None) -> str:
    """A line for each difference, with its node; empty when there is none.

    The nodes' lockfiles are compared with the driver's, or, if it has none, with that of most nodes.
    """
    known = Counter(state.digest for state in states if state.digest)
    expected = expected or (known.most_common(1)[0][0] if known else None)
    lines = []
    for state in states:
        found = [state.problem] if state.problem else []
        if state.digest and state.digest != expected:
            found.append(f"its lockfile is {state.digest}, not {expected}")
        found += state.findings
        lines += [f"  node {state.node}: {each}" for each in found[:_MOST]]
        if len(found) > _MOST:
            lines.append(f"  node {state.node}: and {counted(len(found) - _MOST, 'difference')} more")
    return "\n".join(lines)


def wrong_workers(workers: list[NodeState], fingerprint: Digest) -> str:
    """A line for each node whose worker is not in the environment; empty when there is none."""
    lines = []
    for each in workers:
        if each.problem:
            lines.append(f"  node {each.node}: a worker {each.problem}")
        elif each.inside is None:
            lines.append(f"  node {each.node}: {_OUTSIDE}")
        elif each.inside != fingerprint:
            lines.append(f"  node {each.node}: a worker is in {each.inside}, not {fingerprint}")
    return "\n".join(lines)


def _look(value: str, deep: bool) -> Mapping[str, Any]:
    """On a node, in one of its workers."""
    import ray

    try:
        lockfile = lockfile_of_node(value, str(Path.cwd()))
        words = command("check", str(lockfile), platform.python_version(), ray.__version__, "deep" if deep else "")
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        said = answer(done.returncode, done.stdout, done.stderr)
    except KlockError as error:
        return {"problem": str(error)}
    return {**said, "findings": tuple(said["findings"])}
