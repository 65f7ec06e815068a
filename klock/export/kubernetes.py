"""A locked image as an object of Kubernetes: a Job, Pod, Deployment (its API reference) or JobSet (jobset.x-k8s.io).

The image is named by its digest, so a node runs the locked bytes or nothing. The object repeats only the working
directory of the image's config; variables, user, entrypoint and services come from the image. Credentials are named, as
keys of a Secret, and never written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from klock.errors import KlockError
from klock.lockfile.model import EnvLock, LockedVariable, TargetLock

__all__ = ["FINGERPRINT", "IMAGE", "KINDS", "Wanted", "as_label", "kubernetes_object", "kubernetes_yaml", "refuse_name"]

FINGERPRINT: Final = "org.klock/fingerprint"
"""The annotation of pods by which `klock fleet check` knows which lock they were made from."""
TARGET: Final = "org.klock/target"
IMAGE: Final = "image"
"""The name of the container that runs the locked image."""

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""RFC 1123, as Kubernetes has it ("Object Names and IDs")."""
_LONGEST: Final[Mapping[str, int]] = {"JobSet": 40}
"""Bytes of a name: its controller adds the names of the job and the pod, and the whole must be a label."""
_MOST: Final = 63
_MOST_OF_A_SECRET: Final = 253
_WORKERS: Final = "workers"
_SHARED: Final = "shared-memory"
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of the object. `image` is a name with a digest. `gpus` are whole devices of NVIDIA for each pod.

    `secret` names the Secret that holds the credentials the lockfile names, `pull_secret` the one to pull with.
    `check` is the command of an init container that compares the files.
    """

    kind: str
    name: str
    image: str
    command: Sequence[str] = ()
    namespace: str | None = None
    replicas: int = 1
    gpus: int = 0
    secret: str = ""
    pull_secret: str | None = None
    check: Sequence[str] | None = None


def as_label(text: str) -> str:
    """The closest name that Kubernetes allows; `klock` where nothing is left of it."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[: _LONGEST["JobSet"]].strip("-") or "klock"


def refuse_name(name: str, what: str, *, kind: str = "") -> None:
    """Raises KlockError for a name that Kubernetes does not allow."""
    is_secret = what.endswith("secret")
    longest = _MOST_OF_A_SECRET if is_secret else _LONGEST.get(kind, _MOST)
    allowed = _SUBDOMAIN if is_secret else _LABEL
    if allowed.fullmatch(name) is None or len(name) > longest:
        signs = "a-z, 0-9, and dots and dashes" if is_secret else "a-z, 0-9, and dashes"
        raise KlockError(
            f"{name!r} is not a valid name for a {what}: Kubernetes allows {signs} between them, "
            f"at most {longest} characters",
            hint=f"such as {as_label(name)}",
        )


def kubernetes_yaml(document: Mapping[str, Any], comments: Sequence[str]) -> str:
    """The object as YAML, with `comments` before it."""
    from klock.extras import missing_extra_hint

    try:
        import yaml
    except ImportError as error:
        raise KlockError("writing YAML needs PyYAML", hint=missing_extra_hint("kubernetes")) from error
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=False, width=120)
    return "".join(f"# {line}\n" for line in comments) + str(text)


def kubernetes_object(lock: TargetLock, wanted: Wanted) -> dict[str, Any]:
    """The object. Raises KlockError for what its kind does not allow."""
    _refuse(lock, wanted)
    api, spec = _KINDS[wanted.kind]
    metadata: dict[str, Any] = {"name": wanted.name}
    if wanted.namespace is not None:
        metadata["namespace"] = wanted.namespace
    metadata["labels"] = _labels(wanted)
    if wanted.kind == "Pod":
        metadata["annotations"] = _annotations(lock)
    return {"apiVersion": api, "kind": wanted.kind, "metadata": metadata, "spec": spec(lock, wanted)}


def _refuse(lock: TargetLock, wanted: Wanted) -> None:
    refuse_name(wanted.name, wanted.kind, kind=wanted.kind)
    if wanted.namespace is not None:
        refuse_name(wanted.namespace, "namespace")
    for secret in filter(None, (wanted.secret, wanted.pull_secret)):
        refuse_name(secret, "secret")
    if wanted.kind == "Pod" and wanted.replicas != 1:
        raise KlockError("a Pod is one pod", hint="for several: --kind Job, Deployment or JobSet")
    if wanted.gpus and lock.target.accelerator == "cpu":
        raise KlockError(f"{lock.target} uses no GPU", hint="choose a target that does: --target linux/amd64/cuda12.4")


# -- the kinds


def _job(lock: TargetLock, wanted: Wanted) -> dict[str, Any]:
    several: dict[str, Any] = {}
    if wanted.replicas > 1:
        # Each knows which of them it is: JOB_COMPLETION_INDEX.
        several = {"completions": wanted.replicas, "parallelism": wanted.replicas, "completionMode": "Indexed"}
    return {**several, "backoffLimit": 0, "template": _template(lock, wanted, restart="Never")}


def _deployment(lock: TargetLock, wanted: Wanted) -> dict[str, Any]:
    selector = {"matchLabels": {"app.kubernetes.io/name": wanted.name}}
    return {"replicas": wanted.replicas, "selector": selector, "template": _template(lock, wanted, restart="Always")}


def _job_set(lock: TargetLock, wanted: Wanted) -> dict[str, Any]:
    return {"replicatedJobs": [{"name": _WORKERS, "replicas": 1, "template": {"spec": _job(lock, wanted)}}]}


def _pod(lock: TargetLock, wanted: Wanted) -> dict[str, Any]:
    return _pod_spec(lock, wanted, restart="Never")


_KINDS: Final[Mapping[str, tuple[str, Callable[[TargetLock, Wanted], dict[str, Any]]]]] = {
    "Job": ("batch/v1", _job),
    "Pod": ("v1", _pod),
    "Deployment": ("apps/v1", _deployment),
    "JobSet": ("jobset.x-k8s.io/v1alpha2", _job_set),
}
KINDS: Final = tuple(_KINDS)


# -- the pod


def _template(lock: TargetLock, wanted: Wanted, *, restart: str) -> dict[str, Any]:
    metadata = {"labels": _labels(wanted), "annotations": _annotations(lock)}
    return {"metadata": metadata, "spec": _pod_spec(lock, wanted, restart=restart)}


def _labels(wanted: Wanted) -> dict[str, str]:
    return {"app.kubernetes.io/name": wanted.name, "app.kubernetes.io/managed-by": "klock"}


def _annotations(lock: TargetLock) -> dict[str, str]:
    return {FINGERPRINT: lock.fingerprint, TARGET: str(lock.target)}


def _pod_spec(lock: TargetLock, wanted: Wanted, *, restart: str) -> dict[str, Any]:
    spec: dict[str, Any] = {"restartPolicy": restart}
    if wanted.pull_secret:
        spec["imagePullSecrets"] = [{"name": wanted.pull_secret}]
    # A node of another architecture would pull the image and fail to start it.
    spec["nodeSelector"] = {"kubernetes.io/os": lock.target.os, "kubernetes.io/arch": lock.target.architecture}
    if wanted.check:
        spec["initContainers"] = [_check_container(lock, wanted)]
    spec["containers"] = [_container(lock, wanted)]
    # A container has 64 MB there otherwise, with which PyTorch's loaders die.
    spec["volumes"] = [{"name": _SHARED, "emptyDir": {"medium": "Memory"}}]
    return spec


def _container(lock: TargetLock, wanted: Wanted) -> dict[str, Any]:
    container: dict[str, Any] = {"name": IMAGE, "image": wanted.image, "imagePullPolicy": "IfNotPresent"}
    if wanted.command:
        # The image's own entrypoint stays: it starts the services. `command` would replace it.
        starts = bool(lock.services or lock.settings.entrypoint)
        container["args" if starts else "command"] = [_literal(word) for word in wanted.command]
    container["workingDir"] = lock.working_dir
    if env := _env(lock, wanted.secret):
        container["env"] = env
    container["volumeMounts"] = [{"name": _SHARED, "mountPath": "/dev/shm"}]
    if wanted.gpus:
        container["resources"] = {"limits": {"nvidia.com/gpu": wanted.gpus}}
    return container


def _check_container(lock: TargetLock, wanted: Wanted) -> dict[str, Any]:
    assert wanted.check is not None
    command = [_literal(word) for word in wanted.check]
    container: dict[str, Any] = {"name": "klock-check", "image": wanted.image, "imagePullPolicy": "IfNotPresent"}
    container["command"] = command
    if lock.user not in ("", "0", "root"):
        # Others may not read every file.
        container["securityContext"] = {"runAsUser": 0}
    return container


def _env(lock: TargetLock, secret: str) -> list[dict[str, Any]]:
    """Credentials as keys of the Secret, then the variables that are made of them."""
    variables = {v.name: v for step in lock.steps if isinstance(step, EnvLock) for v in step.variables}
    of_secrets = [variable for variable in variables.values() if variable.secrets]
    services = [name for service in lock.services for name in service.secrets]
    names = sorted({*services, *(name for variable in of_secrets for name in variable.secrets)})
    env: list[dict[str, Any]] = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}} for name in names
    ]
    for variable in of_secrets:
        value = _expanded(variable)
        if value != f"$({variable.name})":
            # Of two with one name the later one counts, and its reference is to the one before it.
            env.append({"name": variable.name, "value": value})
    return env


def _expanded(variable: LockedVariable) -> str:
    """The value with the references that Kubernetes fills in."""
    value = _literal(variable.value)
    for name in variable.secrets:
        value = value.replace(f"${{{name}}}", f"$({name})")
    return value


def _literal(text: str) -> str:
    """So that Kubernetes fills in nothing ("Define Dependent Environment Variables")."""
    return text.replace("$(", "$$(")
