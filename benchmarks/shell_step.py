"""What a shell step of the table is, and how to write the commands that most of them begin with."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ShellStep", "all_of", "apt", "pip", "write"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellStep:
    """A step, and the tools (keys of TOOLS) that earlier steps of the same image have installed for it.

    `leave_out` is that of `run_bash`. `remark`: what to do about a step that is expected not to repeat, or why it does.
    Without `clock` the run with another clock has this machine's: for programs that stop under libfaketime.
    """

    name: str
    script: str
    tools: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    remark: str = ""
    clock: bool = True


def all_of(*commands: str) -> str:
    """A command that runs these, up to the first that fails."""
    return " && ".join(commands)


def apt(*packages: str) -> str:
    """A command that installs Debian packages without those they recommend."""
    return all_of("apt-get update -qq", f"apt-get install -qq -y --no-install-recommends {' '.join(packages)}")


def pip(*arguments: str) -> str:
    """A command that installs Python packages for the system's interpreter."""
    return f"pip install -q --break-system-packages {' '.join(arguments)}"


def write(path: str, *lines: str) -> str:
    """A command that writes lines, which hold no single quotes, to a file."""
    quoted = " ".join(f"'{line}'" for line in lines)
    return f"printf '%s\\n' {quoted} > {path}"
