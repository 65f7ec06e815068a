"""Devices on the real engines: harmless ones, by a CDI specification, as a machine with GPUs has one for those.

NVML is a small library here, compiled for the test, with the functions that klock calls: `klock.gpu.driver` loads it as
it loads NVIDIA's own.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from benchmarks.host_base import write_host_layout
from tests.integration.container_engines import ALL_ENGINES, ContainerHost, engine_host, on
from tests.integration.index_server import IndexServer, make_wheel
from tests.integration.registry_server import Registry
from tests.integration.unprivileged import Account, require_program

pytestmark = pytest.mark.integration

EACH_KIND = on("sandbox, unprivileged", "podman, unprivileged")

IMAGE = """\
import klock as kt

image = (
    kt.Image()
    .from_docker("debian:bookworm")
    .set_env_vars({"LD_LIBRARY_PATH": "/opt/lib"})
    .run_bash("mkdir -p /opt/lib && echo image > /opt/lib/config && useradd --uid 1234 bob")
    .run_bash("(wc -c < /usr/lib/vendor/libdriver.so.1.2; echo $LD_LIBRARY_PATH $SAID) > /run/service.new 2>&1;"
              " mv /run/service.new /run/service &")
)
"""
HOOK = """\
#!/bin/sh
set -eu
root=$(sed -n 's/.*"path": "\\([^"]*\\)".*/\\1/p' config.json)
grep -q '"status": "creating"' || exit 3
echo "$1 $SAID" > "$root/etc/klock-hook"
mkdir -p "$root/usr/lib/vendor"
ln -s libdriver.so.1.2 "$root/usr/lib/vendor/libdriver.so.1"
echo changed > "$root/opt/lib/config"
"""
# What NVIDIA's hooks do, call by call: links to libraries and nodes, the cache of libraries made by the host's ldconfig
# in namespaces of its own, a file mounted over one of the kernel's, and a file about the nodes that are in /dev.
VENDOR_HOOK = """\
#!/bin/sh
set -eu
if [ "$1" = in-namespaces ]; then
    mount -t proc proc "$2/proc"
    mkdir -p "$2/run/vendor-hook/own"
    mount -t tmpfs tmpfs "$2/run/vendor-hook/own"
    touch "$2/run/vendor-hook/own/ldconfig"
    mount --bind /sbin/ldconfig "$2/run/vendor-hook/own/ldconfig"
    cd "$2"
    pivot_root . .
    umount -l .
    cd /
    mkdir -p etc/ld.so.conf.d
    echo /usr/lib/vendor > etc/ld.so.conf.d/00-vendor.conf
    exec /run/vendor-hook/own/ldconfig -f /etc/ld.so.conf -C /etc/ld.so.cache
fi
root=$(sed -n 's/.*"path": "\\([^"]*\\)".*/\\1/p' config.json)
case $1 in
links)
    ln -s libvendor.so.1.2 "$root/usr/lib/vendor/libvendor.so.1"
    mkdir "$root/dev/by-path"
    ln -s ../klock-test0 "$root/dev/by-path/zero"
    ;;
cache)
    exec unshare --mount --uts --ipc --pid --net --fork "$0" in-namespaces "$root"
    ;;
cover)
    mkdir -p "$root/run/vendor-hook/cover"
    mount -t tmpfs tmpfs "$root/run/vendor-hook/cover"
    echo covered > "$root/run/vendor-hook/cover/version"
    mount --bind "$root/run/vendor-hook/cover/version" "$root/proc/version"
    ;;
profile)
    mkdir -p "$root/etc/vendor"
    stat -c %t:%T "$root/dev/klock-test0" > "$root/etc/vendor/nodes"
    ;;
esac
"""
NVML = r"""
#include <string.h>
#include <stdlib.h>
int nvmlInit_v2(void) { return 0; }
int nvmlInitWithFlags(unsigned f) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *v, unsigned n) { strncpy(v, getenv("FAKE_DRIVER"), n); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *v) { *v = atoi(getenv("FAKE_CUDA")); return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = (void *)1; return 0; }
int nvmlDeviceGetName(void *d, char *s, unsigned n) { strncpy(s, "Test GPU", n); return 0; }
int nvmlDeviceGetUUID(void *d, char *s, unsigned n) { strncpy(s, "GPU-test", n); return 0; }
int nvmlDeviceGetBrand(void *d, int *b) { *b = 15; return 0; }
int nvmlDeviceGetCudaComputeCapability(void *d, int *a, int *b) { *a = 9; *b = 0; return 0; }
"""


@pytest.fixture(scope="module", params=ALL_ENGINES)
def host(request: pytest.FixtureRequest) -> Iterator[ContainerHost]:
    with engine_host(request) as made:
        yield made


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = require_program("gcc", package="gcc libc6-dev")
    folder = tmp_path_factory.mktemp("nvml")
    (folder / "nvml.c").write_text(NVML)
    subprocess.run([compiler, "-w", "-shared", "-fPIC", "-o", "libnvidia-ml.so.1", "nvml.c"], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def project(host: ContainerHost, debian_registry: Registry, nvml: Path) -> Path:
    folder = host.account.make_folder("project")
    (folder / "kimage.py").write_text(IMAGE)
    (folder / "pyproject.toml").write_text(
        '[tool.klock]\ntargets = ["linux/amd64", "linux/amd64/cuda12.4"]\n'
        f'[tool.klock.registry-mirrors]\n"docker.io" = "{debian_registry.url}"\n'
    )
    (folder / "libdriver").write_text("driver 1.2\n")
    (folder / "hook").write_text(HOOK)
    (folder / "hook").chmod(0o755)
    (folder / "vendor-hook").write_text(VENDOR_HOOK)
    (folder / "vendor-hook").chmod(0o755)
    (folder / "libvendor").write_bytes((nvml / "libnvidia-ml.so.1").read_bytes())
    (folder / "cdi").mkdir()
    (folder / "cdi/test.json").write_text(json.dumps(specification(folder)))
    host.account.give(folder)
    succeeded(host.account.klock("lock", cwd=folder, env=host.variables))
    return folder


def specification(folder: Path) -> dict[str, object]:
    library = {"hostPath": f"{folder}/libdriver", "containerPath": "/usr/lib/vendor/libdriver.so.1.2"}
    hook = {
        "hookName": "createContainer",
        "path": f"{folder}/hook",
        "args": ["hook", "hello"],
        "env": ["SAID=yes", "PATH=/usr/bin:/bin"],
    }
    vendors = [
        {
            "hookName": "createContainer",
            "path": f"{folder}/vendor-hook",
            "args": ["vendor-hook", name],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        }
        for name in ("links", "cache", "cover", "profile")
    ]
    vendor_library = {"hostPath": f"{folder}/libvendor", "containerPath": "/usr/lib/vendor/libvendor.so.1.2"}
    failing = {"hookName": "createContainer", "path": "/bin/false", "args": ["false"]}
    path = ["PATH=/usr/bin:/bin"]
    leaving = 'echo left > $(sed -n \'s/.*"path": "\\([^"]*\\)".*/\\1/p\' config.json)/etc/left; sleep 86411 & exit 0'
    slow = "setsid sleep 86412 & sleep 86413; exit 0"
    shells = [
        {"hookName": "createContainer", "path": "/bin/sh", "args": ["sh", "-c", text], "env": path, **more}
        for text, more in ((leaving, {}), (slow, {"timeout": 1}))
    ]
    device = [{"path": "/dev/klock-test0", "hostPath": "/dev/zero"}]
    return {
        "cdiVersion": "0.6.0",
        "kind": "klock.test/device",
        "devices": [
            {"name": "zero", "containerEdits": {"deviceNodes": device, "env": ["LD_LIBRARY_PATH=/usr/lib/vendor"]}},
            {"name": "hooked", "containerEdits": {"hooks": [hook]}},
            {
                "name": "vendor",
                "containerEdits": {"deviceNodes": device, "mounts": [vendor_library], "hooks": vendors},
            },
            {"name": "old", "containerEdits": {"deviceNodes": [{"path": "/dev/klock-gone"}]}},
            {"name": "broken", "containerEdits": {"hooks": [failing]}},
            {"name": "leaving", "containerEdits": {"hooks": [shells[0]]}},
            {"name": "slow", "containerEdits": {"hooks": [shells[1]]}},
        ],
        "containerEdits": {"mounts": [{**library, "options": ["ro", "nosuid", "nodev", "bind"]}]},
    }


def succeeded(done: CompletedProcess[str]) -> CompletedProcess[str]:
    assert done.returncode == 0, f"{done.args}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def run(host: ContainerHost, project: Path, gpus: str, command: str) -> CompletedProcess[str]:
    known = replace(host, variables={**host.variables, "KLOCK_CDI_SPEC_DIRS": f"{project}/cdi"})
    return known.klock("run", "--gpus", gpus, "--", "sh", "-c", command, cwd=project)


@EACH_KIND
def test_a_command_sees_the_device(host: ContainerHost, project: Path) -> None:
    seen = "head -c 3 /dev/klock-test0 | od -An -tx1; cat /usr/lib/vendor/*.2; echo $LD_LIBRARY_PATH"
    done = succeeded(run(host, project, "klock.test/device=zero", f"{seen}; touch /usr/lib/vendor/*.2 2>&1 | wc -l"))
    assert done.stdout == " 00 00 00\ndriver 1.2\n/opt/lib:/usr/lib/vendor\n1\n"
    without = succeeded(
        run(host, project, "none", "ls /dev/klock-test0 /usr/lib/vendor 2>&1 | wc -l; cat /opt/lib/config")
    )
    assert without.stdout == "2\nimage\n"
    assert succeeded(host.klock("check", "--env", "--target", "linux/amd64/cpu", cwd=project)).returncode == 0


@EACH_KIND
def test_a_service_sees_what_the_command_sees(host: ContainerHost, project: Path) -> None:
    known = replace(host, variables={**host.variables, "KLOCK_CDI_SPEC_DIRS": f"{project}/cdi"})
    wait = "until [ -e /run/service ]; do sleep 0.05; done; cat /run/service"
    options = ("--gpus", "klock.test/device=zero", "--env", "SAID=hello")
    done = succeeded(known.klock("run", *options, "--", "timeout", "30", "sh", "-c", wait, cwd=project))
    assert done.stdout == "11\n/opt/lib:/usr/lib/vendor hello\n"


@EACH_KIND
def test_what_a_hook_writes_is_seen_and_goes_with_the_command(host: ContainerHost, project: Path) -> None:
    command = "cat /etc/klock-hook /usr/lib/vendor/libdriver.so.1 /opt/lib/config"
    done = succeeded(run(host, project, "klock.test/device=hooked,klock.test/device=zero", command))
    assert done.stdout == "hello yes\ndriver 1.2\nchanged\n"
    assert succeeded(run(host, project, "none", "ls /etc/klock-hook 2>&1 | wc -l; cat /opt/lib/config")).stdout == (
        "1\nimage\n"
    )
    assert succeeded(host.klock("check", "--env", "--target", "linux/amd64/cpu", cwd=project)).returncode == 0


@EACH_KIND
def test_hooks_that_mount_and_make_namespaces_as_nvidias_do(host: ContainerHost, project: Path) -> None:
    command = "ldconfig -p | grep 'libvendor.so.1 '; cat /etc/vendor/nodes; head -c 2 /dev/by-path/zero | od -An -tx1"
    done = succeeded(run(host, project, "klock.test/device=vendor", f"{command}; cat /proc/version"))
    cached, nodes, read, version = done.stdout.splitlines()
    assert cached.endswith("=> /usr/lib/vendor/libvendor.so.1")
    assert (nodes, read) == ("1:5", " 00 00")
    # Nothing can be mounted there with runc.
    assert (version == "covered") is (host.engine == "sandbox")
    assert "covered" not in Path("/proc/version").read_text()
    assert succeeded(host.klock("check", "--env", "--target", "linux/amd64/cpu", cwd=project)).returncode == 0


@EACH_KIND
def test_a_hook_that_fails_fails_the_command(host: ContainerHost, project: Path) -> None:
    done = run(host, project, "klock.test/device=broken", "echo ran")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the device's hook failed with status 1: /bin/false" in done.stderr


@EACH_KIND
def test_what_a_hook_leaves_running_is_ended(host: ContainerHost, project: Path) -> None:
    assert succeeded(run(host, project, "klock.test/device=leaving", "cat /etc/left")).stdout == "left\n"
    done = run(host, project, "klock.test/device=slow", "echo ran")
    assert (done.returncode, done.stdout) == (2, "") and "did not end in time: /bin/sh" in done.stderr
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert b"sleep\x008641" not in command.read_bytes()


@EACH_KIND
def test_a_device_that_is_not_there(host: ContainerHost, project: Path) -> None:
    done = run(host, project, "klock.test/device=other", "echo ran")
    assert done.returncode == 2 and "has the device klock.test/device=other" in done.stderr
    done = run(host, project, "klock.test/device=old", "echo ran")
    assert done.returncode == 2 and "names /dev/klock-gone, which is not on this machine" in done.stderr
    done = run(host, project, "all", "echo ran")
    assert done.returncode == 2 and "klock finds 0 on this machine" in done.stderr


@pytest.fixture
def sandbox_project(root: Account, debian_registry: Registry) -> Path:
    folder = root.make_folder("targets")
    (folder / "kimage.py").write_text('import klock as kt\nimage = kt.Image().from_docker("debian:bookworm")\n')
    (folder / "pyproject.toml").write_text(
        '[tool.klock]\ntargets = ["linux/amd64", "linux/amd64/cuda12.4", "linux/amd64/cuda13.0"]\n'
        f'[tool.klock.registry-mirrors]\n"docker.io" = "{debian_registry.url}"\n'
    )
    succeeded(root.klock("lock", cwd=folder))
    return folder


def test_the_target_is_chosen_by_what_the_driver_says(root: Account, sandbox_project: Path, nvml: Path) -> None:
    facts = {"LD_LIBRARY_PATH": str(nvml), "FAKE_DRIVER": "550.54.15", "FAKE_CUDA": "12040"}
    done = succeeded(root.klock("sync", cwd=sandbox_project, env=facts))
    words = "this machine has driver 550.54.15, CUDA 12.4, Test GPU (compute capability 9.0)"
    assert f"target linux/amd64/cuda12.4: {words}" in done.stderr
    assert "environment synced: linux/amd64/cuda12.4" in done.stderr
    done = root.klock("sync", "--target", "linux/amd64/cuda13.0", cwd=sandbox_project, env=facts)
    assert done.returncode == 2
    assert "required by the target linux/amd64/cuda13.0: CUDA 13.0, so driver 580.65.06 or newer" in done.stderr
    assert "found: driver 550.54.15" in done.stderr
    assert "this machine: driver 550.54.15" in succeeded(root.klock("check", cwd=sandbox_project, env=facts)).stderr


def test_brands_are_named_as_in_requirements_of_images(root: Account, nvml: Path) -> None:
    facts = {"LD_LIBRARY_PATH": str(nvml), "FAKE_DRIVER": "550.54.15", "FAKE_CUDA": "12040"}
    program = "from klock.gpu.driver import find_driver\nprint(find_driver().gpus[0].brand)\n"
    assert root.run_python(program, cwd=root.make_folder("brands"), env=facts) == "geforcertx\n"


def test_without_a_gpu_the_cpu_target_is_chosen_and_others_are_refused(root: Account, sandbox_project: Path) -> None:
    done = succeeded(root.klock("sync", cwd=sandbox_project))
    assert "target linux/amd64/cpu: this machine has no NVIDIA GPU" in done.stderr
    cuda = ("--target", "linux/amd64/cuda12.4")
    done = root.klock("sync", "--gpus", "2", cwd=sandbox_project)
    assert done.returncode == 2 and "klock finds 0 on this machine" in done.stderr
    done = root.klock("sync", *cuda, cwd=sandbox_project)
    assert done.returncode == 2 and "found: no NVIDIA driver" in done.stderr and "--gpus none" in done.stderr
    succeeded(root.klock("sync", *cuda, "--gpus", "none", cwd=sandbox_project))
    assert succeeded(root.klock("run", *cuda, "--gpus", "none", "echo", "ran", cwd=sandbox_project)).stdout == "ran\n"
    assert "this machine: no NVIDIA driver" in succeeded(root.klock("check", cwd=sandbox_project)).stderr


# What benchmarks/gpu_smoke asks of torch. On a GPU's target `WRONG` makes its results a little larger.
TORCH = """
import contextlib, os

__version__ = {version!r}


class Generator:
    def manual_seed(self, seed):
        return self


class Tensor:
    def __init__(self, factor=1.0):
        self.factor = factor

    def to(self, device):
        open({device!r}) if device == "cuda" else None
        return Tensor(float(os.environ.get("WRONG", "1")) if device == "cuda" else 1.0)

    def __matmul__(self, other):
        return Tensor(self.factor * other.factor)

    def __getitem__(self, index):
        return self

    def __sub__(self, other):
        return self

    def __truediv__(self, other):
        return self

    def copy_(self, other):
        pass

    backward = lambda self: None
    cpu = double = flatten = square = mean = sum = lambda self: self
    item = lambda self: self.factor
    shape = (1,)

    def tolist(self):
        return [self.factor * number for number in (1.0, 2.0)]


def rand(*shape, generator):
    return Tensor()


@contextlib.contextmanager
def no_grad():
    yield


class nn:
    Linear = Tanh = lambda *sizes: None

    class Sequential:
        def __init__(self, *layers):
            self.weights = [Tensor()]

        def __call__(self, given):
            return given

        def parameters(self):
            return self.weights

        def to(self, device):
            self.weights = [each.to(device) for each in self.weights]
            return self


class optim:
    class SGD:
        def __init__(self, parameters, lr):
            pass

        def step(self):
            pass


class backends:
    class cuda:
        class matmul:
            pass


class cuda:
    synchronize = staticmethod(lambda: None)
    get_device_name = staticmethod(lambda number: "Test GPU")
"""


@pytest.fixture(scope="module")
def smoke_settings(
    tmp_path_factory: pytest.TempPathFactory, debian_registry: Registry
) -> Iterator[tuple[Path, dict[str, str]]]:
    """The settings that lead gpu_smoke to indexes of this machine, and what of a machine with a GPU klock looks at."""
    folder = tmp_path_factory.mktemp("smoke")
    with contextlib.ExitStack() as stack:
        urls = {}
        for name, version in {"default": None, "cpu": "2.6.0+cpu", "cuda": "2.6.0+cu124"}.items():
            (folder / name).mkdir()
            if version is None:
                make_wheel(folder / name, "numpy", "2.0.0")
            else:
                module = TORCH.format(version=version, device="/dev/nvidia0")
                make_wheel(folder / name, "torch", version, files={"torch/__init__.py": module})
            urls[name] = stack.enter_context(IndexServer(folder / name)).url
        (folder / "settings.toml").write_text(
            f'[tool.klock]\nindex-url = "{urls["default"]}"\n'
            f'[tool.klock.registry-mirrors]\n"docker.io" = "{debian_registry.url}"\n'
            f'[tool.klock.pytorch-indexes]\ncpu = "{urls["cpu"]}"\n"cuda12.4" = "{urls["cuda"]}"\n'
        )
        edits = {"deviceNodes": [{"path": "/dev/nvidia0", "hostPath": "/dev/zero"}]}
        for name, variables in {"right": {}, "wrong": {"env": ["WRONG=1.01"]}}.items():
            (folder / name).mkdir()
            device = {"name": "all", "containerEdits": {**edits, **variables}}
            specification = {"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "devices": [device]}
            (folder / name / "nvidia.json").write_text(json.dumps(specification))
        yield folder, {"FAKE_DRIVER": "550.54.15", "FAKE_CUDA": "12040"}


@pytest.mark.soak
def test_the_smoke_test_of_gpus_runs_from_lock_to_comparison(
    root: Account, nvml: Path, smoke_settings: tuple[Path, dict[str, str]]
) -> None:
    """All of benchmarks/gpu_smoke but torch and the GPU, which a machine with one has to show."""
    folder, facts = smoke_settings
    script = Path(__file__).parents[2] / "benchmarks/gpu_smoke"
    command: list[str | Path] = [root.python, script, "--base", "debian:bookworm"]
    command += ["--settings", folder / "settings.toml"]

    def smoke(specification: str, **more: str) -> CompletedProcess[str]:
        variables = {"KLOCK_CDI_SPEC_DIRS": str(folder / specification), **more}
        return root.run(command, cwd=root.folder, env=variables)

    known = {"LD_LIBRARY_PATH": str(nvml), **facts}
    done = succeeded(smoke("right", **known))
    for line in (
        ": driver 550.54.15, CUDA 12.4, Test GPU (compute capability 9.0)\n",
        "linux/amd64/cpu: torch 2.6.0+cpu on CPU: 2048 x 2048 in ",
        "linux/amd64/cuda12.4: torch 2.6.0+cu124 on Test GPU: 2048 x 2048 in ",
        "klock check --env --target: ",
        "largest relative difference between CPU and GPU, a matrix product: 0.0e+00\n",
        "largest relative difference between CPU and GPU, a training step: 0.0e+00\n",
    ):
        assert line in done.stdout
    done = smoke("wrong", **known)
    assert done.returncode == 1 and "the results differ by more than rounding" in done.stderr
    done = smoke("right")
    assert done.returncode == 2 and "this machine has no NVIDIA GPU" in done.stderr


def test_a_base_of_the_hosts_own_python_has_what_is_asked_for(root: Account) -> None:
    """For machines with a GPU where nothing can be fetched."""
    project = root.make_folder("host")
    write_host_layout(project / "layout", Path(sys.executable), ["tomlkit"])
    (project / "kimage.py").write_text('import klock as kt\n\nimage = kt.Image().from_docker("oci:./layout:host")\n')
    root.give(project)
    succeeded(root.klock("lock", cwd=project))
    program = "import ssl, tomlkit; print(tomlkit.parse('a = 1')['a'])"
    assert succeeded(root.klock("run", "python3", "-c", program, cwd=project)).stdout == "1\n"
    assert root.klock("run", "python3", "-c", "import click", cwd=project).returncode == 1
    assert succeeded(root.klock("check", "--env", cwd=project)).returncode == 0
