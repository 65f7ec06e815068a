"""`klock fleet check`: which pods do not run what is locked, asked of an emulated API server by the official client."""

from __future__ import annotations

import dataclasses
import gzip
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from klock.errors import KlockError
from klock.export.kubernetes import FINGERPRINT
from klock.fetching import pace
from klock.fleet import cluster as cluster_module
from klock.fleet.checking import CheckedFleet, Locked, check_fleet
from klock.fleet.cluster import KubernetesCluster
from klock.fleet.expected import Expected
from klock.layers.scan import manifest_of_tree
from tests.integration.api_server import ApiServer, FakePod, api_server
from tests.integration.container_engines import ContainerHost, podman_host
from tests.integration.debian_image import debian_layout
from tests.integration.index_server import IndexServer, make_wheel
from tests.integration.small_base import SMALL_BASE, write_small_base
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

DIGEST, OTHER = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
FINGER = f"sha256:{'f' * 64}"
IMAGE_ID = f"registry.example.com/team/moon@{DIGEST}"


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with api_server() as server:
        yield server


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What is in the image."""
    tree = tmp_path / "tree"
    for folder in ("srv/app", "tmp"):
        (tree / folder).mkdir(parents=True)
    (tree / "srv/app/main.py").write_text("print(1)\n")
    (tree / "srv/odd \x1b[31m\nname").write_text("x")
    (tree / "srv/link").symlink_to("app")
    (tree / os.fsdecode(b"srv/\xff")).touch()
    os.mkfifo(tree / "srv/pipe")
    return tree


@pytest.fixture
def cluster(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KubernetesCluster:
    monkeypatch.setenv("KUBECONFIG", str(api.write_config(tmp_path / "config")))
    return KubernetesCluster()


def test_where_no_cluster_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(KlockError) as refused:
        KubernetesCluster()
    assert refused.value.message == "no cluster is configured: Service host/port is not set"
    assert "~/.kube/config" in (refused.value.hint or "")
    assert capsys.readouterr().out == "", "results go there"


def test_in_a_pod_its_own_cluster_and_namespace_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kubernetes.config import incluster_config

    for name, content in (("token", "a-token"), ("ca.crt", "a certificate"), ("namespace", "team-a\n")):
        (tmp_path / name).write_text(content)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(cluster_module, "_OWN_NAMESPACE", tmp_path / "namespace")
    # The client reads the certificate when it connects; this test makes no connection.
    monkeypatch.setattr("ssl.SSLContext.load_verify_locations", lambda *_, **__: None)
    cluster = KubernetesCluster()
    assert (cluster.namespace, cluster._host) == ("team-a", "https://10.0.0.1:443")


@pytest.fixture
def locked(tree: Path) -> Locked:
    files = manifest_of_tree(os.fsencode(tree))
    expected = Expected(files=files, layers=(files,))
    return Locked(fingerprint=FINGER, images=frozenset({DIGEST}), python="/usr/bin/python3", files=expected)


def pods(tree: Path, *names: str) -> list[FakePod]:
    """Each with files of its own."""
    return [
        FakePod(
            name=name,
            root=Path(shutil.copytree(tree, tree.with_name(name), symlinks=True, copy_function=_copied)),
            image_id=IMAGE_ID,
            annotations={FINGERPRINT: FINGER},
        )
        for name in names
    ]


def _copied(source: str, target: str) -> None:
    if Path(source).is_fifo():
        os.mkfifo(target)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


def said(checked: CheckedFleet) -> dict[str, list[str]]:
    return {
        pod: [f"{finding.code.value} {finding.message}" for finding in each] for pod, each in checked.findings.items()
    }


def root_of(pod: FakePod) -> Path:
    assert pod.root is not None
    return pod.root


def test_the_pod_and_the_path_that_differ_are_named(
    api: ApiServer, cluster: KubernetesCluster, locked: Locked, tree: Path
) -> None:
    api.pods = pods(tree, "good", "edited", "more", "less")
    (root_of(api.pods[1]) / "srv/app/main.py").write_text("print(2)\n")
    (root_of(api.pods[2]) / "srv/app/evil\n.py").touch()
    (root_of(api.pods[3]) / "srv/link").unlink()
    checked = check_fleet(cluster, "app=moon", locked)
    assert said(checked) == {
        "default/edited": ["drift-modified /srv/app/main.py differs: content"],
        "default/more": ["drift-extra /srv/app/evil\n.py is not in the lockfile"],
        "default/less": ["drift-missing /srv/link is missing"],
    }
    assert (checked.compared, checked.notes) == (4, ())


def test_what_a_container_makes_itself_is_no_finding(
    api: ApiServer, cluster: KubernetesCluster, locked: Locked, tree: Path
) -> None:
    api.pods = pods(tree, "pod")
    root = root_of(api.pods[0])
    for path in (
        "etc/resolv.conf",
        "run/secrets/token",
        "tmp/x",
        "srv/app/__pycache__/main.cpython-311.pyc",
        "dev/null",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    assert said(check_fleet(cluster, "app=moon", locked)) == {}


def test_another_image_and_another_lock_are_named_and_their_files_not_read(
    api: ApiServer, cluster: KubernetesCluster, locked: Locked, tree: Path
) -> None:
    api.pods = pods(tree, "image", "lock")
    api.pods[0].image_id = f"docker-pullable://x@{OTHER}"
    api.pods[1].annotations[FINGERPRINT] = OTHER
    for pod in api.pods:
        (root_of(pod) / "srv/app/main.py").unlink()
    assert said(check_fleet(cluster, "app=moon", locked)) == {
        "default/image": [f"drift-setting it runs another image: {OTHER}"],
        "default/lock": ["drift-setting it was made from another lockfile"],
    }


def test_pods_that_do_not_run_are_said_and_never_pass(
    api: ApiServer, cluster: KubernetesCluster, locked: Locked, tree: Path
) -> None:
    api.pods = pods(tree, "good", "pulling", "done", "ending", "gone", "new")
    by_name = {pod.name: pod for pod in api.pods}
    by_name["pulling"].state = {"waiting": {"reason": "ImagePullBackOff"}}
    by_name["pulling"].phase = "Pending"
    by_name["done"].phase = "Succeeded"
    by_name["ending"].is_ending = True
    by_name["gone"].fails = 404
    by_name["new"].containers = ()
    checked = check_fleet(cluster, "app=moon", locked)
    assert said(checked) == {
        "default/pulling": ["drift-not-running it does not run: Pending: ImagePullBackOff"],
        "default/new": ["drift-not-running it does not run: its container has not started"],
    }
    assert checked.compared == 1
    assert checked.notes == (
        "default/done is not compared: Succeeded",
        "default/ending is not compared: it is being deleted",
        "default/gone: it ended before it answered",
    )


_LONG = b'["' + b"a" * 4000 + b'%d", "dir", 0, 0, 0, 0, null]\n'
HOSTILE = {
    "nothing": (b"", "its answer is cut off"),
    "no JSON": (b"hello\n", "its answer is not a list of files"),
    "deep": (b"[" * 60_000 + b"\n", "its answer is not a list of files"),
    "no end": (b'["mounts", []]\n', "its answer is cut off"),
    "a path out": (b'["mounts", []]\n["../etc", "dir", 0, 0, 0, 0, null]\n', "has an impossible path"),
    "an absolute path": (b'["mounts", []]\n["/etc", "dir", 0, 0, 0, 0, null]\n', "has an impossible path"),
    "a digest that is none": (b'["mounts", []]\n["a", "file", 0, 0, 0, 0, "x"]\n', "has an impossible file"),
    "negative": (b'["mounts", []]\n["a", "dir", -1, 0, 0, 0, null]\n', "has an impossible path"),
    "a path twice": (b'["mounts", []]\n' + b'["a", "dir", 0, 0, 0, 0, null]\n' * 2, "says one path twice"),
    "too few": (b'["mounts", []]\n["end", 5]\n', "its answer is cut off"),
    "a line without end": (b"a" * 200_000, "a line without end"),
    "without end": (
        b'["mounts", []]\n' + b"".join(_LONG % n for n in range(1200)),
        "it prints more than its files could be",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_pod_may_say_anything(
    api: ApiServer, cluster: KubernetesCluster, locked: Locked, tree: Path, case: str
) -> None:
    answer, message = HOSTILE[case]
    api.pods = pods(tree, "good", "hostile")
    api.pods[1].prints = lambda output: answer
    (found,) = said(check_fleet(cluster, "app=moon", locked)).items()
    assert found[0] == "default/hostile"
    assert len(found[1]) == 1 and found[1][0].startswith("drift-unreadable ") and message in found[1][0]


def test_what_is_mounted_or_hidden_is_said_and_not_compared(
    api: ApiServer, cluster: KubernetesCluster, locked: Locked, tree: Path
) -> None:
    api.pods = pods(tree, "pod")
    (root_of(api.pods[0]) / "srv/app/main.py").write_text("of the volume\n")
    api.pods[0].prints = lambda output: output.replace(b'["mounts", []]', b'["mounts", ["srv/app", "data"]]')
    checked = check_fleet(cluster, "app=moon", locked)
    assert said(checked) == {}
    assert checked.notes == ("default/pod: 2 locked paths below mounts: /srv/app, /data",)


def test_more_pods_than_a_page_and_a_page_that_is_gone(
    api: ApiServer, cluster: KubernetesCluster, locked: Locked, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.pods = [FakePod(name=f"pod-{n}", image_id=IMAGE_ID if n != 700 else OTHER) for n in range(1201)]
    api.expires = 1
    checked = check_fleet(cluster, "app=moon", dataclasses.replace(locked, files=None))
    assert list(checked.findings) == ["default/pod-700"]
    assert (checked.compared, api.pages) == (1201, 5), "two, of which one was gone, and then three"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "does not know you.*log in to the cluster"),
        (403, "does not let you list pods in the namespace default.*ask for the right to list pods"),
        (500, "could not list pods"),
    ],
)
def test_a_cluster_that_refuses_says_why(
    api: ApiServer, cluster: KubernetesCluster, locked: Locked, status: int, said: str
) -> None:
    api.refuses = status
    with pytest.raises(KlockError) as caught:
        check_fleet(cluster, "app=moon", locked)
    assert re.search(said, f"{caught.value.message} {caught.value.hint}", re.DOTALL)


def test_who_may_not_run_commands_is_told_the_right_and_the_way_out(
    api: ApiServer, cluster: KubernetesCluster, locked: Locked, tree: Path
) -> None:
    api.pods = pods(tree, "pod")
    api.pods[0].fails = 403
    with pytest.raises(KlockError, match="does not let you run a command in default/pod") as caught:
        check_fleet(cluster, "app=moon", locked)
    assert "create pods/exec" in str(caught.value.hint) and "--image-only" in str(caught.value.hint)


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"items": 5}'])
def test_what_is_no_api_server_is_said(
    api: ApiServer, cluster: KubernetesCluster, locked: Locked, answer: bytes
) -> None:
    api.answers = answer
    with pytest.raises(KlockError, match=r"did not answer (as a Kubernetes API server|with a list of pods)"):
        check_fleet(cluster, "app=moon", locked)


def _on_and_on(start: bytes, piece: bytes, pause: float = 0.0) -> Callable[[Callable[[bytes], object]], None]:
    def send(write: Callable[[bytes], object]) -> None:
        write(start)
        while True:
            write(piece)
            time.sleep(pause)

    return send


_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_BOMB = gzip.compress(bytes(32 << 20), 9)
SERVERS = {
    "a list without end": _on_and_on(_OK + b"\r\n", b" " * 65536),
    "an error without end": _on_and_on(b"HTTP/1.1 500 Oops\r\n\r\n", b"x" * 65536),
    "a list byte by byte": _on_and_on(_OK + b"\r\n", b" ", 0.01),
    "a head without end": _on_and_on(_OK, b"X: y\r\n"),
    "an error that unpacks to gigabytes": lambda write: write(
        b"HTTP/1.1 500 Oops\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(_BOMB) + _BOMB
    ),
}


@pytest.mark.parametrize("case", SERVERS)
def test_a_server_may_send_anything(
    api: ApiServer, locked: Locked, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api.write_config(tmp_path / "config")))
    monkeypatch.setattr(cluster_module, "_LARGEST", 1 << 20)
    monkeypatch.setattr(pace, "_WINDOW", 0.3)
    api.sends = SERVERS[case]
    with pytest.raises(KlockError, match=r"does not answer|could not list pods"):
        check_fleet(KubernetesCluster(), "app=moon", locked)


@pytest.mark.parametrize("items", [b"[]", b"[{}, {}, {}]"], ids=["empty", "full"])
def test_a_list_that_always_has_another_page(
    api: ApiServer, cluster: KubernetesCluster, locked: Locked, monkeypatch: pytest.MonkeyPatch, items: bytes
) -> None:
    monkeypatch.setattr(cluster_module, "_MOST", 10)
    api.answers = b'{"metadata": {"continue": "1"}, "items": %s}' % items
    with pytest.raises(KlockError, match="lists pods without end" if items == b"[]" else "lists more than 10 pods"):
        check_fleet(cluster, "app=moon", locked)


def _stalled(write: Callable[[bytes], object]) -> None:
    write(b"\x82\x05\x01")
    time.sleep(3)


_LARGE_FRAME = b"\x82\x7e\xff\xff\x01" + b"a" * 0xFFFE
FRAMES: dict[str, tuple[Callable[[Callable[[bytes], object]], None], str]] = {
    "frames without end": (_on_and_on(b"", _LARGE_FRAME), "more than its files|took too long|a line without end"),
    "a frame without end": (_on_and_on(b"\x82\x7f" + b"\x7f" * 8, b"a" * 65536), "it prints more than its files"),
    "a frame byte by byte": (_on_and_on(b"\x82\x7f" + b"\x7f" * 8, b"a", 0.02), "it took too long"),
    "a frame of which nothing comes": (_stalled, "it took too long"),
    "no frame": (_on_and_on(b"", b"\xf3\x05abcde"), "the connection broke: "),
}


@pytest.mark.parametrize("case", FRAMES)
def test_a_command_in_a_pod_may_send_anything(
    api: ApiServer, cluster: KubernetesCluster, locked: Locked, tree: Path, case: str
) -> None:
    """The client itself reads on while there is something to read, and frames as a whole."""
    sends, said_of_it = FRAMES[case]
    api.pods = pods(tree, "hostile")
    api.pods[0].sends = sends
    (found,) = said(check_fleet(cluster, "app=moon", locked, seconds=1.5)).values()
    assert len(found) == 1 and re.search(said_of_it, found[0])


def test_several_containers_are_told_apart(
    api: ApiServer, cluster: KubernetesCluster, locked: Locked, tree: Path
) -> None:
    api.pods = pods(tree, "pod")
    api.pods[0].containers = ("sidecar", "main")
    with pytest.raises(KlockError, match="has the containers main, sidecar"):
        check_fleet(cluster, "app=moon", locked)
    assert said(check_fleet(cluster, "app=moon", locked, container="main")) == {}
    api.pods[0].annotations["kubectl.kubernetes.io/default-container"] = "main"
    assert said(check_fleet(cluster, "app=moon", locked)) == {}


def test_no_pods_is_an_error(api: ApiServer, cluster: KubernetesCluster, locked: Locked) -> None:
    with pytest.raises(KlockError, match="no pod with app=moon runs"):
        check_fleet(cluster, "app=moon", locked)


def test_the_command_line(api: ApiServer, root: Account, tmp_path: Path) -> None:
    """With the digests that the lockfile and the exported object have."""
    project = root.make_folder("project")
    (project / "kimage.py").write_text(f'import klock as kt\nimage = kt.Image().from_docker("{SMALL_BASE}")\n')
    (project / "pyproject.toml").touch()
    write_small_base(project / "layout")
    assert root.klock("lock", "--image-digest", cwd=project).returncode == 0
    pushed = "registry.example.com/team/moon"
    done = root.klock("export", "kubernetes", "--kind", "Job", "--pushed", pushed, cwd=project)
    assert done.returncode == 0, done.stderr
    exported = done.stdout
    digest = exported.partition("image: ")[2].partition("\n")[0]
    fingerprint = exported.partition(f"{FINGERPRINT}: ")[2].partition("\n")[0]
    refused = root.klock("export", "kubernetes", "--kind", "Job", "--pushed", f"{pushed}@{OTHER}", cwd=project)
    assert (refused.returncode, "is not the image of this lockfile" in refused.stderr) == (2, True)

    api.pods = [FakePod(name="one", image_id=digest, annotations={FINGERPRINT: fingerprint})]
    api.pods.append(FakePod(name="two\x1b[31m", image_id=f"x@{OTHER}"))
    env = {"KUBECONFIG": str(api.write_config(tmp_path / "config"))}
    done = root.klock("fleet", "check", "--selector", "app=moon", cwd=project, env=env)
    assert done.stdout == f"default/two\\x1b[31m: drift-setting: it runs another image: {OTHER}\n", done.stderr
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "1 pod of 2 not as locked")


@pytest.mark.soak
def test_real_containers_of_a_pushed_image(api: ApiServer, root: Account, tmp_path: Path) -> None:
    """podman stands for a node: the check before a pod starts, and the comparison of those that run."""
    project = root.make_folder("real")
    wheels = root.make_folder("wheels")
    make_wheel(wheels, "demo", "1.0", files={"demo/more.py": "x = 1\n"})
    with IndexServer(wheels) as index, podman_host(root) as podman:
        (project / "kimage.py").write_text(
            f'import klock as kt\nimage = kt.Image().from_docker("oci:{debian_layout()}:bookworm")'
            f'.pip_install(["demo"]).run_bash("mkdir /opt/data; touch /opt/data/odd\\ name")\n'
        )
        (project / "pyproject.toml").write_text(f'[tool.klock]\nindex-url = "{index.url}"\n')
        for command in (["lock", "--image-digest"], ["export", "image", "--name", "localhost/moon:1", "moon.tar"]):
            done = root.klock(*command, cwd=project)
            assert done.returncode == 0, done.stderr
        podman.native("load", "--quiet", "--input", str(project / "moon.tar"))
        done = root.klock(
            *("export", "kubernetes", "--kind", "Pod", "--check", "--pushed", "registry.example.com/moon"), cwd=project
        )
        assert done.returncode == 0, done.stderr
        pod = yaml.safe_load(done.stdout)
        check = pod["spec"]["initContainers"][0]["command"]
        run = ("run", "--rm", "--network=none", "localhost/moon:1")
        assert podman.native(*run, *check) == "klock: the files are the locked ones\n"
        changed = podman.account.run(
            ["podman", *run, "sh", "-c", 'touch /opt/data/more; exec "$@"', "sh", *check],
            cwd=project,
            env=podman.variables,
        )
        assert (changed.returncode, "klock fleet check" in changed.stderr) == (1, True)

        names = [
            podman.native("run", "-d", "--network=none", "localhost/moon:1", "sleep", "600").strip() for _ in range(2)
        ]
        podman.native("exec", names[0], "python3", "-c", "import demo.more")
        podman.native(
            "exec", names[1], "sh", "-c", "echo x = 2 > $(python3 -c 'import demo; print(demo.__path__[0])')/more.py"
        )
        digest = pod["spec"]["containers"][0]["image"]
        api.pods = [
            FakePod(
                name=f"pod-{number}",
                enter=_in_podman(podman, name),
                image_id=digest,
                annotations=pod["metadata"]["annotations"],
            )
            for number, name in enumerate(names)
        ]
        env = {"KUBECONFIG": str(api.write_config(tmp_path / "config"))}
        done = root.klock("fleet", "check", "-l", "app=moon", cwd=project, env=env)
        assert done.returncode == 1, done.stderr
        (line,) = done.stdout.splitlines()
        assert re.match(
            r"default/pod-1: drift-modified: step 1 \(kimage.py:2\): /\S+/demo/more.py differs: content", line
        )


def _in_podman(podman: ContainerHost, name: str) -> Callable[[list[str], bytes], subprocess.CompletedProcess[bytes]]:
    def enter(command: list[str], given: bytes) -> subprocess.CompletedProcess[bytes]:
        environment = {**podman.account.environment, **podman.variables}
        return subprocess.run(
            ["podman", "exec", "-i", name, *command], input=given, capture_output=True, env=environment, check=False
        )

    return enter
