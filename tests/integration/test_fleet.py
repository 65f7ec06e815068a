"""Real launchers: Slurm, Open MPI and torchrun start klock, and the processes find each other.

They need the network: the images are made of Debian's packages.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.integration.slurm_cluster import slurm_cluster
from tests.integration.test_run_many import is_running
from tests.integration.unprivileged import Account, require_program
from tests.run_folder import readable_folder

pytestmark = [pytest.mark.integration, pytest.mark.soak, pytest.mark.skipif(os.geteuid() != 0, reason="starts daemons")]

PATIENCE = 60.0
MPI = """\
import os
import struct

from mpi4py import MPI

world = MPI.COMM_WORLD
sent = bytearray(os.urandom(1 << 20)) if world.rank == 0 else bytearray(1 << 20)
world.Bcast(sent)
assert world.allreduce(sum(sent)) == world.size * sum(sent)
node = world.Split_type(MPI.COMM_TYPE_SHARED)
window = MPI.Win.Allocate_shared(8 if node.rank == 0 else 0, 1, comm=node)
shared, _ = window.Shared_query(0)
if node.rank == 0:
    struct.pack_into("q", shared, 0, 42)
node.Barrier()
print(world.rank, world.size, node.size, struct.unpack_from("q", shared, 0)[0], flush=True)
"""
TRAIN = """\
import os

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, TensorDataset

dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 1))
inputs = torch.randn(64, 8, generator=torch.Generator().manual_seed(rank))
for x, y in DataLoader(TensorDataset(inputs, torch.ones(64, 1)), batch_size=16, num_workers=2):
    model.zero_grad()
    torch.nn.functional.mse_loss(model(x), y).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad
dist.barrier()
print("trained", rank, size, os.environ["LOCAL_RANK"], f"{sum(p.sum() for p in model.parameters()).item():.6f}")
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def project(root: Account) -> Path:
    folder = root.make_folder("fleet")
    packages = ["python3-mpi4py", "python3-torch"]
    (folder / "kimage.py").write_text(f'import klock as kt\nimage = kt.images.from_debian("bookworm", {packages})\n')
    (folder / "mpi.py").write_text(MPI)
    (folder / "train.py").write_text(TRAIN)
    for verb in ("lock", "sync"):
        done = root.klock(verb, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def slurm() -> Iterator[Mapping[str, str]]:
    with readable_folder("slurm") as folder, slurm_cluster(folder) as variables:
        yield variables


def klock_run(account: Account, project: Path, *options: str) -> list[str | Path]:
    return [account.python, "-m", "klock", "run", *options, "--mount", f"{project}:/srv:ro", "--", "python3"]


def start(account: Account, project: Path, argv: list[str | Path], env: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv,
        cwd=project,
        env=account.environment | dict(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_slurm_tells_each_process_its_rank(root: Account, project: Path, slurm: Mapping[str, str]) -> None:
    say = "import os, socket; print(*map(os.environ.get, ['SLURM_PROCID', 'SLURM_NTASKS']), socket.gethostname())"
    srun = require_program("srun", package="slurm-wlm")
    done = root.run([srun, "-n", "4", *klock_run(root, project), "-c", say], cwd=project, env=slurm)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"{rank} 4 {os.uname().nodename}" for rank in range(4)]


@pytest.mark.parametrize("options", [(), ("--host-pid", "--host-ipc")], ids=["usual", "shared"])
def test_what_slurm_cancels_leaves_nothing(
    root: Account, project: Path, slurm: Mapping[str, str], options: tuple[str, ...]
) -> None:
    script = "import subprocess; print('started', flush=True); subprocess.run(['setsid', 'sleep', '6190'])"
    argv = ["srun", "-n", "2", *klock_run(root, project, *options), "-c", script]
    process = start(root, project, argv, slurm)
    assert process.stdout is not None
    # Before that srun may say that it waits for the CPUs of the step before.
    assert "started\n" in process.stdout
    subprocess.run(["scancel", "--me"], env={**os.environ, **slurm}, check=True)
    assert process.wait(PATIENCE) != 0
    deadline = time.monotonic() + PATIENCE
    while is_running("6190"):
        assert time.monotonic() < deadline, "a process stays"
        time.sleep(0.1)


@pytest.mark.parametrize("options", [("--host-pid",), ("--host-pid", "--host-ipc")], ids=["one", "both"])
def test_mpi_talks_through_shared_memory(root: Account, project: Path, options: tuple[str, ...]) -> None:
    """With process ids of their own the processes would name their memory alike, and crash."""
    mpirun = require_program("mpirun", package="openmpi-bin")
    with readable_folder("mpi") as folder:
        argv = [mpirun, "--allow-run-as-root", "--oversubscribe", "-n", "2", "--mca", "btl", "self,vader"]
        argv += [*map(str, klock_run(root, project, *options, "--mount", f"{folder}:{folder}")), "/srv/mpi.py"]
        # Each command has a user namespace of its own, in which no other may read its memory.
        variables = {"OMPI_MCA_btl_vader_single_copy_mechanism": "none", "TMPDIR": str(folder)}
        done = root.run(argv, cwd=project, env=variables, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["0 2 2 42", "1 2 2 42"]
    assert done.stderr == ""


@pytest.fixture
def two_machines() -> Iterator[list[tuple[str, str]]]:
    """Names of two network namespaces with a cable between them, and of its end in each."""
    names = [f"klock-{os.getpid()}-{number}" for number in range(2)]
    ends = ["kv0", "kv1"]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", ends[0], "netns", names[0], "type", "veth", "peer", "name", ends[1], "netns", names[1])
        for number, name in enumerate(names):
            ip("-n", name, "address", "add", f"10.77.0.{number + 1}/24", "dev", ends[number])
            for end in ("lo", ends[number]):
                ip("-n", name, "link", "set", end, "up")
        yield list(zip(names, ends, strict=True))
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False)


def test_torchrun_trains_on_two_machines(root: Account, project: Path, two_machines: list[tuple[str, str]]) -> None:
    running = []
    for number, (name, end) in enumerate(two_machines):
        # Debian's torch 1.13 and Python 3.11 need the first two: without them torchrun fails, with or without klock.
        torchrun = ["-m", "torch.distributed.run", "-r", "1", "-t", "1", "--nnodes", "2", "--node_rank", str(number)]
        torchrun += ["--nproc_per_node", "2", "--master_addr", "10.77.0.1", "--master_port", "29500", "/srv/train.py"]
        argv = ["ip", "netns", "exec", name, *klock_run(root, project), *torchrun]
        running.append(start(root, project, argv, {"GLOO_SOCKET_IFNAME": end}))
    said = []
    try:
        for process in running:
            output, _ = process.communicate(timeout=2 * PATIENCE)
            assert process.returncode == 0, output
            said += [line.partition("trained ")[2].split() for line in output.splitlines() if "trained " in line]
    finally:
        for process in running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert sorted(words[:3] for words in said) == [[str(rank), "4", str(rank % 2)] for rank in range(4)]
    assert len({words[3] for words in said}) == 1
