"""What a launcher says to a process reaches the command; what is a credential, or leads astray, does not."""

from __future__ import annotations

import pytest

from klock.commands.run_options import _parse_variables
from klock.launchers import launcher_variables

SET = {
    "of Slurm": {"SLURM_PROCID": "3", "SLURMD_NODENAME": "n7"},
    "of MPI": {"OMPI_COMM_WORLD_RANK": "1", "PMI_RANK": "1", "PMIX_RANK": "1", "I_MPI_FABRICS": "shm"},
    "of torchrun": {"RANK": "0", "WORLD_SIZE": "8", "MASTER_ADDR": "n1", "TORCHELASTIC_RUN_ID": "x"},
    "of threads": {"OMP_NUM_THREADS": "4"},
    "of networks": {"NCCL_DEBUG": "INFO", "UCX_TLS": "tcp"},
}


@pytest.mark.parametrize("case", SET)
def test_variables_of_a_launcher_are_passed_on(case: str) -> None:
    assert launcher_variables({**SET[case], "HOME": "/root", "PATH": "/bin"}) == SET[case]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLURM_JWT", "eyJhbGciOiJIUzI1NiJ9.abcdefgh.ijklmnop"),
        ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
        ("DATABASE_PORT_5432_TCP", "tcp://10.0.0.2:5432"),
        ("RANKING", "1"),
        ("MASTER_PASSWORD", "hunter2hunter2"),
        ("CUDA_VISIBLE_DEVICES", "0"),
    ],
)
def test_other_variables_stay_out(name: str, value: str) -> None:
    assert launcher_variables({name: value}) == {}


def test_a_pattern_passes_on_what_it_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLOCKTEST_A", "here")
    monkeypatch.setenv("KLOCKTEST_B", "mine")
    monkeypatch.setenv("KLOCK_OTHEX", "1")
    found = _parse_variables(["KLOCKTEST_*", "NAME=*", "KLOCK_OTHE?", "NOTHING_*"])
    assert found == {"KLOCKTEST_A": "here", "KLOCKTEST_B": "mine", "NAME": "*", "KLOCK_OTHEX": "1"}
