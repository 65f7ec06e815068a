"""What bubblewrap is told of a command."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from klock.workshop.bubblewrap import Access, Bind, View
from klock.workshop.users import User

VIEW = View(
    root="/area/merged",
    shared_memory="/area/shm",
    proc="/area/proc-1",
    shows_machine=False,
    binds=(),
    user=User(uid=1000, gid=100),
    variables={},
    working_dir="/srv",
)


def options(view: View = VIEW, **changes: object) -> list[str]:
    return list(dataclasses.replace(view, **changes).options())  # type: ignore[arg-type]


def contains(whole: Sequence[str], *part: str) -> bool:
    return any(tuple(whole[start : start + len(part)]) == part for start in range(len(whole)))


def test_the_tree_of_a_step_is_its_own_but_for_what_the_kernel_makes() -> None:
    assert options()[:8] == ["--bind", "/area/merged", "/", "--dev", "/dev", "--bind", "/area/shm", "/dev/shm"]
    assert contains(options(), "--bind", "/area/proc-1", "/proc")
    assert "/sys" not in options()


def test_settings_of_the_machine_are_shown_and_cannot_be_written() -> None:
    assert contains(options(), "--ro-bind-try", "/area/proc-1/sys", "/proc/sys")
    assert contains(options(), "--ro-bind-try", "/area/proc-1/sysrq-trigger", "/proc/sysrq-trigger")
    assert contains(options(shows_machine=True), "--ro-bind-try", "/sys", "/sys")


def test_binds_cover_the_tree_in_their_order() -> None:
    binds = (
        Bind(access=Access.READ_ONLY, source="/host/a", target="/a"),
        Bind(access=Access.READ_WRITE, source="/host/b", target="/a/b"),
        Bind(access=Access.DEVICE, source="/dev/nvidia0", target="/dev/nvidia0"),
    )
    expected = ["--ro-bind", "/host/a", "/a", "--bind", "/host/b", "/a/b", "--dev-bind", "/dev/nvidia0", "/dev/nvidia0"]
    assert contains(options(binds=binds), *expected)
    assert options(binds=binds).index("/a") > options(binds=binds).index("/proc")


@pytest.mark.parametrize(("uid", "has_rights"), [(0, True), (1, False), (1000, False)])
def test_only_root_keeps_rights_and_none_over_the_machine(uid: int, has_rights: bool) -> None:
    given = options(user=User(uid=uid, gid=0))
    assert contains(given, "--cap-drop", "ALL")
    assert contains(given, "--cap-add", "CAP_CHOWN") == has_rights
    for never in ("CAP_SYS_ADMIN", "CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_MKNOD", "CAP_SYS_PTRACE", "CAP_SYS_MODULE"):
        assert never not in given


def test_a_command_gets_its_variables_and_no_others() -> None:
    given = options(variables={"A": "1", "EMPTY": ""})
    assert contains(given, "--clearenv")
    assert [given[n + 1 : n + 3] for n, option in enumerate(given) if option == "--setenv"] == [
        ["A", "1"],
        ["EMPTY", ""],
    ]


def test_a_command_is_its_user_in_a_namespace_below_bubblewraps_and_dies_with_klock() -> None:
    assert contains(options(), "--unshare-user", "--uid", "1000", "--gid", "100")
    assert contains(options(), "--die-with-parent")
    assert contains(options(), "--chdir", "/srv")


def test_folders_of_devices_can_be_entered_by_every_user() -> None:
    targets = ("/dev/zero", "/dev/a/b/one", "/dev/a/two", "/dev/a/b/three")
    binds = tuple(Bind(access=Access.DEVICE, source="/dev/null", target=target) for target in targets)
    given = options(binds=binds)
    made = [given[at - 2 : at + 2] for at, option in enumerate(given) if option == "--dir"]
    assert made == [["--perms", "0755", "--dir", "/dev/a"], ["--perms", "0755", "--dir", "/dev/a/b"]]
    assert given.index("--dir") < given.index("--dev-bind")
