"""A real Ray cluster of three nodes on this machine, each with a store of its own: workers run in what is locked.

They need the network: Ray comes from the package index, and the image is made of Debian's packages.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from klock.lockfile.reading import from_text
from tests.integration.registry_server import Registry, registry
from tests.integration.test_run_many import is_running
from tests.integration.unprivileged import Account
from tests.run_folder import readable_folder

pytestmark = [pytest.mark.integration, pytest.mark.soak, pytest.mark.skipif(os.geteuid() != 0, reason="one account")]

ROOT = Path(__file__).parent.parent.parent
PYTHON = "/usr/bin/python3"
RAY = "2.60.0"
PATIENCE = 120.0
NODES = ("127.0.1.1", "127.0.1.2", "127.0.1.3")
PLUGIN = '[{"class": "klock.ray.KlockPlugin"}]'
SMALL = ("--num-cpus", "4", "--object-store-memory", "200000000", "--disable-usage-stats")
DRIVER = """\
import json
import os
import signal
import subprocess
import sys
import time

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import klock.ray

ray.init(address=sys.argv[1], runtime_env={"working_dir": ".", "klock": sys.argv[2],
         "env_vars": {"SAID": "hello"}}, log_to_driver=False)
nodes = {each["NodeManagerAddress"]: each["NodeID"] for each in ray.nodes() if each["Alive"]}


def on(address):
    return NodeAffinitySchedulingStrategy(node_id=nodes[address], soft=False)


def answer(value):
    print(json.dumps(value))
    sys.exit()

"""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    python: Path
    address: str
    project: Path
    stores: tuple[Path, ...]

    def drive(self, script: str, lockfile: str = "kimage.lock") -> Any:
        """What a driver that ends with `answer(...)` answers."""
        environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "KLOCK_CACHE_DIR": str(self.stores[0])}
        done = subprocess.run(
            [self.python, "-c", DRIVER + script, self.address, lockfile],
            cwd=self.project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def python() -> Iterator[Path]:
    """Debian's Python, which the image has too, with Ray and klock."""
    with readable_folder("ray-python") as folder:
        subprocess.run([PYTHON, "-m", "venv", folder / "venv"], check=True)
        subprocess.run([folder / "venv/bin/pip", "install", "-q", f"ray=={RAY}", ROOT], check=True)
        yield folder / "venv/bin/python"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


def make_project(root: Account, name: str, setting: str) -> Path:
    folder = root.make_folder(name)
    (folder / "kimage.py").write_text(
        f'import klock as kt\nimage = kt.images.from_debian("bookworm", ["python3"]).pip_install(["ray=={RAY}"])\n'
    )
    (folder / "pyproject.toml").write_text(f"[tool.klock]\n{setting}\n")
    return folder


@pytest.fixture(scope="module")
def project(root: Account, cache: Registry) -> Path:
    """Locked, and all of it in a registry."""
    folder = make_project(root, "ray", f'cache = "oci://{cache.host}/cache"')
    for words in (["lock"], ["push", "--cache"]):
        done = root.klock(*words, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def cluster(root: Account, project: Path, python: Path, cache: Registry) -> Iterator[Cluster]:
    cache.forget_requests()
    with readable_folder("r") as folder:
        stores = (Path(root.environment["KLOCK_CACHE_DIR"]), folder / "two", folder / "three")
        with started(python, project, folder, stores, {}) as made:
            yield made


@contextmanager
def started(
    python: Path, project: Path, folder: Path, stores: tuple[Path, ...], variables: dict[str, str]
) -> Iterator[Cluster]:
    """A cluster of three nodes, each with a store, until the block ends. The third keeps no environment that no job
    uses."""
    port = free_port()
    with ExitStack() as running:
        for address, store in zip(NODES, stores, strict=True):
            words = ["--head", f"--port={port}", f"--temp-dir={folder}/t", "--include-dashboard=false"]
            if address != NODES[0]:
                words = [f"--address={NODES[0]}:{port}"]
            given = {**variables, "KLOCK_CACHE_DIR": str(store), "RAY_RUNTIME_ENV_PLUGINS": PLUGIN}
            if address == NODES[2]:
                given["RAY_RUNTIME_ENV_KLOCK_CACHE_SIZE_GB"] = "0"
            running.enter_context(node(python, address, words, given, folder))
        yield Cluster(python=python, address=f"{NODES[0]}:{port}", project=project, stores=stores)


@contextmanager
def node(python: Path, address: str, how: Sequence[str], variables: dict[str, str], folder: Path) -> Iterator[None]:
    """A node of a cluster at an address of this machine, until the block ends."""
    words: list[str | Path] = [
        python.with_name("ray"),
        "start",
        "--block",
        f"--node-ip-address={address}",
        *SMALL,
        *how,
    ]
    with process(words, variables, folder / f"{address}.log"):
        wait_for_line(folder / f"{address}.log", "Ray runtime started")
        yield


@contextmanager
def process(words: Sequence[str | Path], variables: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs it and all that it starts until the block ends; what it prints is in `log`."""
    with open(log, "wb") as output:
        started = subprocess.Popen(
            words, env={**os.environ, **variables}, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()


def wait_for_line(log: Path, words: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while words not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as found:
        found.bind((NODES[0], 0))
        port: int = found.getsockname()[1]
        return port


def test_whole_nodes_in_the_environment(root: Account, project: Path) -> None:
    """Without the plugin: all of Ray is what is locked, and no Python of the machine matters."""
    port = free_port()
    driver = f"""
import time
import ray
ray.init(address="{NODES[0]}:{port}", log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) < 3:
    time.sleep(0.2)
@ray.remote(num_cpus=1, scheduling_strategy="SPREAD")
def look():
    time.sleep(1)
    return ray.util.get_node_ip_address()
print("tasks", *sorted(ray.get([look.remote() for _ in range(6)])))
"""
    (project / "driver.py").write_text(driver)
    run: list[str | Path] = [root.python, "-m", "klock", "run", "--mount", f"{project}:/srv:ro", "--", "sh", "-c"]
    small = " ".join(SMALL).replace("--num-cpus 4", "--num-cpus 2")
    head = f"ray start --head --node-ip-address={NODES[0]} --port={port} --include-dashboard=false {small}"
    variables = dict(root.environment)
    with readable_folder("whole") as folder, ExitStack() as running:
        words = [*run, f"cd /srv && {head} && python3 driver.py"]
        running.enter_context(changed_to(project))
        head_node = running.enter_context(process(words, variables, folder / "head.log"))
        wait_for_line(folder / "head.log", "Ray runtime started")
        for address in NODES[1:]:
            worker = f"ray start --address={NODES[0]}:{port} --node-ip-address={address} --block {small}"
            running.enter_context(process([*run, worker], variables, folder / f"{address}.log"))
            # Nodes of one machine look for free ports at the same time, and find the same ones.
            wait_for_line(folder / f"{address}.log", "Ray runtime started")
        assert head_node.wait(PATIENCE) == 0, (folder / "head.log").read_text()
        (said,) = [line for line in (folder / "head.log").read_text().splitlines() if line.startswith("tasks ")]
    assert said.split()[1:] == sorted([*NODES, *NODES])


def test_tasks_run_in_the_environment_on_every_node(cluster: Cluster, cache: Registry) -> None:
    """Each node fetches what it lacks once, however many workers start."""
    script = """
@ray.remote(num_cpus=0.1)
def look():
    time.sleep(0.5)  # so that others begin elsewhere
    issue = open("/etc/issue").read().split()[0]
    return [ray.util.get_node_ip_address(), sys.executable, issue, os.path.exists("/etc/shadow-"),
            os.environ["SAID"], os.path.exists("kimage.lock"), os.getpid()]
answer(ray.get([look.options(scheduling_strategy=on(address)).remote() for address in nodes for _ in range(3)]))
"""
    said = cluster.drive(script)
    assert sorted({each[0] for each in said}) == list(NODES)
    assert {tuple(each[1:3]) for each in said} == {("/usr/bin/python3", "Debian")}
    assert all(each[4:6] == ["hello", True] for each in said)
    assert len({each[6] for each in said}) > len(NODES)
    blobs = Counter(path for method, path in cache.requests() if method == "GET" and "/blobs/" in path)
    assert blobs and set(blobs.values()) == {2}  # by the two nodes whose stores were empty
    assert all(len(list((store / "ray").iterdir())) == 1 for store in cluster.stores)


def test_nodes_take_everything_from_a_vault(root: Account, python: Path, cache: Registry) -> None:
    """Upstream is cut off, all stores are empty, and two nodes have one store: each store fetches each file once."""
    project = make_project(root, "vaulted", f'vault = "oci://{cache.host}/vault"')
    for words in (["lock"], ["vault", "push", f"oci://{cache.host}/vault"]):
        done = root.klock(*words, cwd=project)
        assert done.returncode == 0, done.stderr
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    nowhere["no_proxy"] = ",".join(["127.0.0.1", *NODES])
    script = """
@ray.remote(num_cpus=0.1)
def look():
    time.sleep(0.5)
    return [ray.util.get_node_ip_address(), os.environ["KLOCK_ENVIRONMENT"]]
answer(ray.get([look.options(scheduling_strategy=on(address)).remote() for address in nodes for _ in range(3)]))
"""
    cache.forget_requests()
    with readable_folder("v") as folder:
        stores = (folder / "one", folder / "shared", folder / "shared")
        with started(python, project, folder, stores, nowhere) as cluster:
            said = cluster.drive(script)
    (locked,) = from_text((project / "kimage.lock").read_text()).targets
    assert Counter(map(tuple, said)) == {(address, locked.fingerprint): 3 for address in NODES}
    blobs = Counter(path for method, path in cache.requests() if method == "GET" and "/vault/blobs/" in path)
    assert blobs and set(blobs.values()) == {2}


def test_objects_and_actors(cluster: Cluster) -> None:
    script = """
@ray.remote(num_cpus=0.1)
def make(size):
    return b"x" * size
@ray.remote(num_cpus=0.1)
class Counter:
    def __init__(self):
        self.total = 0
    def add(self, data):
        self.total += len(data)
        return self.total
made = [make.options(scheduling_strategy=on(address)).remote(20_000_000) for address in nodes]
counters = [Counter.options(scheduling_strategy=on(address)).remote() for address in nodes]
answer([[ray.get(each.add.remote(data)) for data in made] for each in counters])
"""
    assert cluster.drive(script) == [[20_000_000, 40_000_000, 60_000_000]] * 3


def test_a_worker_that_dies_leaves_nothing(cluster: Cluster) -> None:
    script = """
@ray.remote(num_cpus=0.1, max_restarts=0)
class Actor:
    def leave(self):
        open("/tmp/left", "w").close()
        subprocess.Popen(["setsid", "sleep", "6210"])
        return os.getpid()
actor = Actor.options(scheduling_strategy=on("127.0.1.1")).remote()
pid = ray.get(actor.leave.remote())
os.kill(pid, signal.SIGKILL)
try:
    ray.get(actor.leave.remote())
except ray.exceptions.ActorDiedError:
    answer(pid)
"""
    before = mounted_in(cluster.stores[0])
    pid = cluster.drive(script)
    deadline = time.monotonic() + PATIENCE
    while is_running("6210") or any(name.endswith(f".{pid}") for name in in_store(cluster.stores[0])):
        assert time.monotonic() < deadline, "the worker left a process"
        time.sleep(0.1)
    assert mounted_in(cluster.stores[0]) == before
    assert not Path("/tmp/left").exists()
    assert [path.name for path in (cluster.stores[0] / "tmp").glob("scratch-*")] == []


def mounted_in(folder: Path) -> list[str]:
    """The mounts that have to do with a folder. Others on this machine may come and go."""
    return [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]


def in_store(store: Path) -> list[str]:
    return [path.name for path in (store / "environments").rglob("mounted-by-*")]


def test_a_lockfile_with_another_python_is_refused(cluster: Cluster) -> None:
    """Before anything is fetched, and with what to do."""
    text = (cluster.project / "kimage.lock").read_text()
    changed, count = re.subn(r'(?m)^(\s*version = )"3\.11\.\d+"', r'\1"3.12.1"', text)
    assert count == 1
    (cluster.project / "other.lock").write_text(changed)
    script = """
@ray.remote(num_cpus=0.1)
def look():
    pass
try:
    ray.get(look.remote())
except ray.exceptions.RuntimeEnvSetupError as error:
    answer(str(error))
"""
    said = cluster.drive(script, "other.lock")
    assert "other.lock has Python 3.12.1, and Ray runs on Python 3.11.2 on this node" in said
    assert "klock run -- ray start" in said


def test_the_barrier_names_node_and_path_that_differ(cluster: Cluster) -> None:
    script = """
try:
    answer(["same", klock.ray.assert_same_environment()])
except klock.ray.NodesDiffer as error:
    answer(["differ", str(error)])
"""
    (locked,) = from_text((cluster.project / "kimage.lock").read_text()).targets
    assert cluster.drive(script) == ["same", locked.fingerprint]
    (upper,) = (cluster.stores[1] / "environments").glob("*/*/upper")
    changed = upper / "usr/local/lib/python3.11/dist-packages/ray/_version.py"
    changed.parent.mkdir(parents=True, exist_ok=True)
    changed.write_text("version = '0'\n")
    try:
        differ, said = cluster.drive(script)
    finally:
        changed.unlink()
    assert differ == "differ"
    (line,) = [line for line in said.splitlines() if "_version.py" in line]
    assert line.startswith("  node 127.0.1.2 (")
    assert line.endswith("/usr/local/lib/python3.11/dist-packages/ray/_version.py differs: content")
    assert "127.0.1.1" not in said and "127.0.1.3" not in said


def test_the_barrier_names_a_node_that_has_no_plugin(cluster: Cluster) -> None:
    """Ray itself says nothing, and its workers run in the machine's own Python."""
    script = """
try:
    answer(["same", klock.ray.assert_same_environment()])
except klock.ray.NodesDiffer as error:
    answer(["differ", str(error).splitlines()])
"""
    address, variables = "127.0.1.4", {"KLOCK_CACHE_DIR": str(cluster.stores[2])}
    with (
        readable_folder("n") as folder,
        node(cluster.python, address, [f"--address={cluster.address}"], variables, folder),
    ):
        differ, said = cluster.drive(script)
    assert differ == "differ"
    (_, line) = said
    assert line.startswith(f"  node {address} (")
    assert line.endswith("its workers run in no environment: start Ray there with RAY_RUNTIME_ENV_PLUGINS")


def test_an_environment_that_no_job_uses_is_removed_and_made_again(cluster: Cluster) -> None:
    """Where Ray is told to keep none: its layers stay, so nothing is fetched for the next job."""
    script = """
@ray.remote(num_cpus=0.1, scheduling_strategy=on("127.0.1.3"))
def look():
    return os.environ["KLOCK_ENVIRONMENT"]
answer(ray.get(look.remote()))
"""
    # By another name it is another environment. Of the other one Ray may still count workers that were killed.
    (cluster.project / "own.lock").write_bytes((cluster.project / "kimage.lock").read_bytes())
    (locked,) = from_text((cluster.project / "own.lock").read_text()).targets
    others = uppers(cluster.stores[2])
    for _ in range(2):
        assert cluster.drive(script, "own.lock") == locked.fingerprint
        deadline = time.monotonic() + PATIENCE
        while uppers(cluster.stores[2]) != others:
            assert time.monotonic() < deadline, "the environment stays"
            time.sleep(0.2)


def uppers(store: Path) -> set[Path]:
    """The writable layers of environments."""
    return set((store / "environments").glob("*/*/upper"))


@contextmanager
def changed_to(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
