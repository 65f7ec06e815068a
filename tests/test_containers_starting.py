"""What runtimes say of a container that does not start, and what klock makes of it."""

from __future__ import annotations

import pytest

from klock.places.containers.starting import cause_of, problem_with_program

DOCKER = (
    "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: "
)
PODMAN = "preparing container 62751d73c462 for attach: runc: runc create failed: unable to start container process: "
RLIMIT = "error setting rlimit type 6: operation not permitted"

SAID = {
    "docker, no program": (f'{DOCKER}exec: "nosuch": executable file not found in $PATH: unknown', 127),
    "docker, no path": (f'{DOCKER}exec: "/srv/x": stat /srv/x: no such file or directory: unknown', 127),
    "docker, below a file": (f'{DOCKER}exec: "/a/x": stat /a/x: not a directory: unknown', 127),
    "docker, not executable": (f'{DOCKER}exec: "/srv/app/main.py": permission denied: unknown', 126),
    "podman, no program": (
        f'{PODMAN}exec: "nosuch": executable file not found in $PATH: OCI runtime attempted to invoke a command that '
        "was not found",
        127,
    ),
    "podman, not executable": (f'{PODMAN}exec: "/etc": permission denied: OCI permission denied', 126),
    "podman, an odd name": (f'{PODMAN}exec: "a \\"b\\": c": executable file not found in $PATH: OCI runtime', 127),
    "crun, no program": (
        "preparing container 62751d73c462 for attach: crun: executable file `nosuch` not found in $PATH: No such file "
        "or directory: OCI runtime attempted to invoke a command that was not found",
        127,
    ),
    "crun, not executable": ("crun: open executable: Permission denied: OCI permission denied", 126),
    "limits": (f"{PODMAN}{RLIMIT}: OCI permission denied", None),
    "a mount": (f'{DOCKER}error mounting "/x" to rootfs at "/y": no such file or directory: unknown', None),
}


@pytest.mark.parametrize(("said", "status"), SAID.values(), ids=SAID)
def test_whether_it_is_about_the_program(said: str, status: int | None) -> None:
    problem = problem_with_program(said)
    assert (problem and problem[0]) == status


def test_the_cause_names_no_container() -> None:
    assert cause_of(PODMAN + RLIMIT).startswith("runc: runc create failed: ")
    assert cause_of(DOCKER + RLIMIT) == DOCKER + RLIMIT
