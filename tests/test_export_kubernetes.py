"""Objects of Kubernetes: valid by the published schemas, with credentials by name alone."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from klock.errors import KlockError
from klock.export.kubernetes import KINDS, Wanted, as_label, kubernetes_object, kubernetes_yaml
from klock.lockfile.model import EnvLock, LockedVariable, ServiceLock, SettingsLock, TargetLock
from klock.targets import Target
from tests.test_lockfile import SMALL

LOCK = SMALL.targets[0]
CUDA = replace(LOCK, target=Target.parse("linux/arm64/cuda12.4"))
IMAGE = f"registry.example.com/team/moon@sha256:{'1' * 64}"
NEWEST = "1.34"


def wanted(kind: str = "Job", **others: Any) -> Wanted:
    return Wanted(kind=kind, name="moon", image=IMAGE, secret="moon-secrets", **others)


def with_steps(*steps: Any) -> TargetLock:
    return replace(LOCK, steps=(*LOCK.steps, *steps))


def validate(document: dict[str, Any]) -> None:
    """By the published schema; of a JobSet, which is not part of Kubernetes, the Job in it."""
    if document["kind"] == "JobSet":
        assert document["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
        assert document["spec"].keys() == {"replicatedJobs"}
        for job in document["spec"]["replicatedJobs"]:
            assert job.keys() == {"name", "replicas", "template"}
            validate({"apiVersion": "batch/v1", "kind": "Job", "metadata": document["metadata"], **job["template"]})
    else:
        kubernetes_validate.validate(document, NEWEST, strict=True)


def containers_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By name, wherever they are."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in document.items():
        if key in ("containers", "initContainers"):
            found |= {container["name"]: container for container in value}
        elif isinstance(value, dict):
            found |= containers_of(value)
        elif isinstance(value, list):
            for each in value:
                found |= containers_of(each) if isinstance(each, dict) else {}
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_valid_with_all_that_there_is(kind: str) -> None:
    variables = (LockedVariable(name="TOKEN", written="", value="Bearer ${HF_TOKEN}", secrets=("HF_TOKEN",)),)
    lock = replace(CUDA, steps=(*CUDA.steps, EnvLock(variables=variables), ServiceLock(command="serve &")))
    much = wanted(
        kind,
        command=["python3", "-c", "print(1)"],
        namespace="science",
        replicas=1 if kind == "Pod" else 3,
        gpus=2,
        pull_secret="login.example",
        check=["/usr/bin/python3", "-c", "pass"],
    )
    document = kubernetes_object(lock, much)
    validate(document)
    assert yaml.safe_load(kubernetes_yaml(document, ["a comment"])) == document
    container = containers_of(document)["image"]
    assert container["image"] == containers_of(document)["klock-check"]["image"] == IMAGE
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 2}}


def test_a_misspelt_field_would_be_found() -> None:
    document = kubernetes_object(LOCK, wanted())
    document["spec"]["template"]["spec"]["nodeselector"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(document)


def test_the_least() -> None:
    document = kubernetes_object(LOCK, wanted("Pod"))
    assert document["spec"] == {
        "restartPolicy": "Never",
        "nodeSelector": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
        "containers": [
            {
                "name": "image",
                "image": IMAGE,
                "imagePullPolicy": "IfNotPresent",
                "workingDir": LOCK.working_dir,
                "volumeMounts": [{"name": "shared-memory", "mountPath": "/dev/shm"}],
            }
        ],
        "volumes": [{"name": "shared-memory", "emptyDir": {"medium": "Memory"}}],
    }
    assert document["metadata"]["annotations"]["org.klock/fingerprint"] == LOCK.fingerprint


def test_credentials_are_keys_of_a_secret_and_references_to_them() -> None:
    lock = with_steps(
        EnvLock(
            variables=(
                LockedVariable(name="HF_TOKEN", written="", value="${HF_TOKEN}", secrets=("HF_TOKEN",)),
                LockedVariable(
                    name="URL", written="", value="https://${USER}:${PASS}@h/$(x)", secrets=("PASS", "USER")
                ),
                LockedVariable(name="PLAIN", written="x", value="x"),
            )
        ),
        ServiceLock(command="serve ${DB} &", secrets=("DB",)),
    )
    env = containers_of(kubernetes_object(lock, wanted()))["image"]["env"]
    keys = [entry["valueFrom"]["secretKeyRef"] for entry in env if "valueFrom" in entry]
    assert keys == [{"name": "moon-secrets", "key": key} for key in ("DB", "HF_TOKEN", "PASS", "USER")]
    assert env[len(keys) :] == [{"name": "URL", "value": "https://$(USER):$(PASS)@h/$$(x)"}]


@pytest.mark.parametrize(
    ("step", "field"),
    [(None, "command"), (ServiceLock(command="serve &"), "args"), (SettingsLock(entrypoint=("tini", "--")), "args")],
)
def test_the_images_entrypoint_stays(step: Any, field: str) -> None:
    lock = LOCK if step is None else with_steps(step)
    container = containers_of(kubernetes_object(lock, wanted(command=["echo", "$(HOME) $HOME"])))["image"]
    assert container[field] == ["echo", "$$(HOME) $HOME"]
    assert not {"command", "args"} - {field} & container.keys()


@pytest.mark.parametrize(
    ("lock", "asked", "message"),
    [
        (LOCK, wanted("Pod", replicas=2), "a Pod is one"),
        (LOCK, wanted(gpus=1), "linux/amd64/cpu uses no GPU"),
        (LOCK, replace(wanted(), name="Moon_1"), "'Moon_1' is not a valid name for a Job"),
        (LOCK, replace(wanted("JobSet"), name="a" * 41), "dashes between them, at most 40 characters"),
        (LOCK, wanted(namespace="a.b"), "'a.b' is not a valid name for a namespace"),
        (
            LOCK,
            wanted(pull_secret="../x"),
            "'../x' is not a valid name for a secret: Kubernetes allows a-z, 0-9, and dots and dashes between them, "
            "at most 253",
        ),
    ],
)
def test_what_cannot_be_is_refused(lock: TargetLock, asked: Wanted, message: str) -> None:
    with pytest.raises(KlockError, match=re.escape(message)):
        kubernetes_object(lock, asked)


@given(st.text(max_size=80))
def test_every_text_has_a_name_that_is_allowed(text: str) -> None:
    document = kubernetes_object(LOCK, replace(wanted("JobSet"), name=as_label(text)))
    assert document["metadata"]["name"] == as_label(text)


def test_a_user_who_may_not_read_all_does_not_check() -> None:
    lock = with_steps(SettingsLock(user="app"))
    check = containers_of(kubernetes_object(lock, wanted(check=["python3"])))["klock-check"]
    assert check["securityContext"] == {"runAsUser": 0}
    assert "securityContext" not in containers_of(kubernetes_object(LOCK, wanted(check=["python3"])))["klock-check"]
