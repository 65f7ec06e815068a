"""Waiting until services are ready, before a command begins: in the environment's own shell, so it is alike everywhere.

A port is ready when something listens on it, as /proc/net/tcp of the environment says (proc_net(5)): nothing connects,
which a server might count, or answer with its only reply. A command is ready when it ends with status 0.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from klock.workshop.protocol import Command

__all__ = ["PATIENCE", "TIMED_OUT", "telling_its_end", "wait_script", "waiting_for"]

PATIENCE: Final = 60
"""Seconds."""
TIMED_OUT: Final = 124
"""The exit status of a command that never began, as timeout(1) has it."""

_REPORT: Final = 10
"""Seconds after which it is said what is waited for."""

# What a `sleep` of whole seconds only cannot do is done in whole ones; `date` is not needed, nor bash.
_SCRIPT: Final = f"""\
klock_is_ready() {{
    case $1 in
        port:*)
            for klock_table in /proc/net/tcp /proc/net/tcp6; do
                [ -r $klock_table ] || continue
                while read -r klock_number klock_local klock_remote klock_state klock_rest; do
                    case "$klock_local $klock_state" in *":${{1#port:}} 0A") return 0 ;; esac
                done < $klock_table
            done
            return 1
            ;;
        *) /bin/sh -c "$1" </dev/null >/dev/null 2>&1 ;;
    esac
}}
klock_wait() {{
    klock_turns=0
    until klock_is_ready "$1"; do
        if [ -n "$klock_mark" ] && [ -e "$klock_mark" ]; then
            echo "klock: a service ended before it was ready: $2" >&2
            exit {TIMED_OUT}
        fi
        if [ $klock_turns -ge $(($3 * klock_a_second)) ]; then
            echo "klock: not ready after $3 s: $2" >&2
            exit {TIMED_OUT}
        fi
        klock_turns=$((klock_turns + 1))
        if [ $klock_turns -eq $(({_REPORT} * klock_a_second)) ]; then echo "klock: waiting: $2" >&2; fi
        sleep $klock_pause
    done
}}
klock_mark=
klock_pause=0.1 klock_a_second=10
sleep 0.1 2>/dev/null || {{ klock_pause=1; klock_a_second=1; }}
"""
_RUN: Final = """\
klock_seconds=$1
klock_mark=$2
shift 2
while [ "$1" != -- ]; do
    klock_wait "$1" "$2" $klock_seconds
    shift 2
done
shift
unset -f klock_wait klock_is_ready
exec "$@"
"""


def waiting_for(command: Command, waits: Sequence[str], *, mark: str, seconds: int = PATIENCE) -> Command:
    """The command, which begins once all of `waits` are ready. It ends with TIMED_OUT, and a message that says why,
    when they are not after `seconds`, or when there is a file `mark`."""
    words = (str(seconds), mark, *_words(waits), "--")
    return replace(command, argv=("/bin/sh", "-c", _SCRIPT + _RUN, "klock", *words, *command.argv))


def wait_script(waits: Sequence[str], *, seconds: int = PATIENCE) -> str:
    """Lines of a POSIX shell that go on once all of `waits` are ready; none for none."""
    if not waits:
        return ""
    words = list(_words(waits))
    pairs = zip(words[::2], words[1::2], strict=True)
    return _SCRIPT + "".join(f"klock_wait {shlex.quote(test)} {shlex.quote(said)} {seconds}\n" for test, said in pairs)


def telling_its_end(service: Command, mark: str) -> Command:
    """A service that leaves a file `mark` when it ends, for those who wait for one."""
    if service.script is None:
        return service
    # Where there is no /tmp nobody is told. (A failed redirection of `:` would end the shell.)
    text = f"( {service.script}\n)\nklock_status=$?\n(echo > {mark}) 2>/dev/null\nexit $klock_status\n"
    return replace(service, script=text)


def _words(waits: Sequence[str]) -> list[str]:
    """Of each what is tested, and how it is called."""
    found = []
    for wait in waits:
        if wait.isdecimal():
            found += [f"port:{int(wait):04X}", f"nothing listens on port {wait}"]
        else:
            found += [wait, wait.partition("\n")[0]]
    return found
