"""The variables by which a launcher tells a process which of many it is: passed on to commands, as they are.

They say nothing of the environment's files, so no lockfile has them. Kubernetes' variables for services
(`NAME_SERVICE_HOST` and the like) are not among them: there is one for each service of a cluster, and they lead
programs astray that look for a server of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final

from klock.secrets.values import is_secret

__all__ = ["LAUNCHERS", "launcher_variables", "matching"]

LAUNCHERS: Final[dict[str, tuple[str, ...]]] = {
    "Slurm": ("SLURM_*", "SLURMD_*", "SRUN_*"),
    "MPI": ("PMI_*", "PMIX_*", "OMPI_*", "PRTE_*", "HYDRA_*", "MPI_*", "I_MPI_*"),
    "torchrun": (
        *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME", "NODE_RANK"),
        *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE"),
        *("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_*"),
    ),
    "threads": ("OMP_*", "KMP_*", "GOMP_*", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    "networks": ("NCCL_*", "GLOO_*", "UCX_*", "FI_*"),
}
"""Patterns of names, by what sets them. `*` stands for any text."""


def launcher_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Those of `environ` that are a launcher's, without what may be a credential, such as `SLURM_JWT`."""
    patterns = [pattern for patterns in LAUNCHERS.values() for pattern in patterns]
    return {name: value for name, value in matching(patterns, environ).items() if not is_secret(name, value)}


def matching(patterns: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of `environ` whose names match one of the patterns."""
    wanted = tuple(patterns)
    return {name: value for name, value in sorted(environ.items()) if any(fnmatchcase(name, each) for each in wanted)}
