"""What a lockfile needs of an NVIDIA driver, against what drivers say of themselves."""

from __future__ import annotations

import dataclasses

import pytest

from klock.errors import EngineError, KlockError
from klock.gpu.choice import choose
from klock.gpu.driver import Driver, Gpu
from klock.gpu.requirements import Need, cuda_of, needs_of, refuse_machine, unmet
from klock.lockfile.model import EnvLock, LockedPackage, LockedVariable, OciLock, TargetLock, WheelArtifact
from klock.targets import Target
from tests.test_lockfile import SMALL

H100 = Gpu(name="NVIDIA H100", uuid="GPU-1", brand="tesla", capability=(9, 0))
GEFORCE = Gpu(name="GeForce", uuid="GPU-2", brand="geforce", capability=(7, 5))


def driver(version: str = "550.54.15", cuda: tuple[int, int] = (12, 4), *gpus: Gpu) -> Driver:
    return Driver(version=version, cuda=cuda, gpus=gpus or (H100,))


def package(name: str, version: str) -> LockedPackage:
    wheel = WheelArtifact(name=f"{name}.whl", url="https://x/y.whl", sha256="0" * 64, size=1)
    return LockedPackage(name=name, version=version, index=None, artifact=wheel)


def lock(accelerator: str = "cuda12.4", *packages: LockedPackage, **variables: str) -> TargetLock:
    one = SMALL.targets[0]
    assert isinstance(one.base, OciLock)
    base = dataclasses.replace(one.base, environment=tuple(sorted(variables.items())))
    return dataclasses.replace(one, target=Target(accelerator=accelerator), packages=packages, base=base)


def test_what_is_locked_says_what_it_needs() -> None:
    locked = lock(
        "cuda12.1",
        package("nvidia-cuda-runtime-cu12", "12.4.127"),
        package("torch", "2.6.0+cu124"),
        package("numpy", "2.0.0"),
        NVIDIA_REQUIRE_CUDA="cuda>=12.4",
    )
    assert needs_of(locked) == (
        Need(source="the target linux/amd64/cuda12.1", cuda=(12, 1)),
        Need(source="nvidia-cuda-runtime-cu12==12.4.127", cuda=(12, 4)),
        Need(source="torch==2.6.0+cu124", cuda=(12, 4)),
        Need(source="NVIDIA_REQUIRE_CUDA of the base image", expression="cuda>=12.4"),
    )
    assert needs_of(lock("cpu", package("torch", "2.6.0+cu124"))) == ()
    disabled = lock("cuda12.1", NVIDIA_REQUIRE_CUDA="cuda>=99", NVIDIA_DISABLE_REQUIRE="true")
    assert len(needs_of(disabled)) == 1
    variable = LockedVariable(name="NVIDIA_DISABLE_REQUIRE", written="1", value="1")
    by_step = dataclasses.replace(
        lock("cuda12.1", NVIDIA_REQUIRE_CUDA="cuda>=99"), steps=(EnvLock(variables=(variable,)),)
    )
    assert len(needs_of(by_step)) == 1


@pytest.mark.parametrize(
    ("cuda", "version", "met"),
    [
        ((12, 4), "550.54.15", True),
        ((12, 4), "525.60.13", True),  # minor version compatibility
        ((12, 4), "525.60.12", False),
        ((11, 8), "450.80.02", True),
        ((13, 0), "550.54.15", False),
        ((13, 0), "580.65.06", True),
        ((10, 2), "440.33", True),
    ],
)
def test_a_driver_runs_a_cuda_version_or_not(cuda: tuple[int, int], version: str, met: bool) -> None:
    found = driver(version, (12, 4))
    assert (unmet((Need(source="x", cuda=cuda),), found) == []) is met


@pytest.mark.parametrize(
    ("expression", "met"),
    [
        ("cuda>=12.4", True),
        ("cuda>=12.5", False),
        ("cuda>=12.5 brand=tesla,driver>=550,driver<551", True),
        ("cuda>=12.5 brand=tesla,driver>=535,driver<536", False),
        ("brand=geforce,cuda>=12.0", False),
        ("driver=550", True),
        ("driver!=550", False),
        ("arch>=9.0", True),
        ("arch>=9.1", False),
        ("moon=full", False),
        ("cuda<=12.4,cuda>12.3", True),
        # What nobody can be sure of is not a reason to refuse, nor to fail.
        ("cuda>=12.\N{SUPERSCRIPT TWO}", True),
        pytest.param("cuda>=" + "9" * 5000, True, id="digits"),
    ],
)
def test_the_grammar_of_nvidia_require_cuda(expression: str, met: bool) -> None:
    assert (unmet((Need(source="x", expression=expression),), driver()) == []) is met


def test_brand_and_architecture_are_of_one_gpu() -> None:
    need = Need(source="x", expression="brand=tesla,arch<8.0")
    assert unmet((need,), driver("550.54.15", (12, 4), H100, GEFORCE)) == [need]
    other = Need(source="x", expression="brand=geforce,arch<8.0")
    assert unmet((other,), driver("550.54.15", (12, 4), H100, GEFORCE)) == []


def test_the_error_says_found_and_required() -> None:
    locked = lock("cuda13.0", NVIDIA_REQUIRE_CUDA="cuda>=13.0")
    with pytest.raises(EngineError) as error:
        refuse_machine(locked, driver())
    assert "required by the target linux/amd64/cuda13.0: CUDA 13.0, so driver 580.65.06 or newer" in error.value.message
    assert "required by NVIDIA_REQUIRE_CUDA of the base image: cuda>=13.0" in error.value.message
    assert "found: driver 550.54.15, CUDA 12.4, NVIDIA H100 (compute capability 9.0)" in error.value.message
    with pytest.raises(EngineError, match="found: no NVIDIA driver"):
        refuse_machine(locked, None)
    refuse_machine(lock("cuda12.4"), driver())
    refuse_machine(lock("cpu"), None)


def test_the_target_is_what_the_machine_can_run() -> None:
    cpu = Target(accelerator="cpu")
    locks = [lock("cpu"), lock("cuda11.8"), lock("cuda12.4"), lock("cuda13.0")]
    chosen, why = choose(locks, default=cpu, driver=driver)
    assert chosen == Target(accelerator="cuda12.4") and "driver 550.54.15" in why
    assert choose(locks, default=cpu, driver=lambda: None) == (cpu, "this machine has no NVIDIA GPU")
    old = driver("440.33", (10, 2))
    assert choose(locks, default=cpu, driver=lambda: old)[0] == cpu


def test_a_target_has_numbers_that_can_be_read() -> None:
    with pytest.raises(KlockError, match="unknown target"):
        Target.parse("linux/amd64/cuda" + "9" * 5000 + ".1")
    assert cuda_of(Target.parse("linux/amd64/cuda12.4").accelerator) == (12, 4)
