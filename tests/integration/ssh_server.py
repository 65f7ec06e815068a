"""An sshd on a free loopback port, to which the name `engine` leads, and nobody needs a password.

    with ssh_server(folder) as variables:
        account.run(["ssh", "root@engine", "true"], cwd=folder, env=variables)

Whoever holds `folder/user` may log in; `folder/user.pub` says so. It needs root.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.unprivileged import require_program

__all__ = ["ssh_server"]

_PATIENCE = 30.0
_SEPARATION = Path("/run/sshd")
"""sshd wants an empty folder of this name."""


@contextmanager
def ssh_server(folder: Path) -> Iterator[dict[str, str]]:
    """Yields the variables with which a process finds an `ssh` that knows the server."""
    sshd = require_program("sshd", package="openssh-server")
    ssh = require_program("ssh", package="openssh-client")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    (folder / "sshd").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        "StrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\n"
    )
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "config").write_text(
        f"Host engine\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {folder}/user\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder}/known\n"
    )
    # ssh looks for its settings in the account's home, whatever HOME says.
    (folder / "bin").mkdir()
    (folder / "bin/ssh").write_text(f'#!/bin/sh\nexec {ssh} -F {folder}/config "$@"\n')
    (folder / "bin/ssh").chmod(0o755)
    was_there = _SEPARATION.exists()
    _SEPARATION.mkdir(exist_ok=True)
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", folder / "sshd"], stderr=log)
    try:
        deadline = time.monotonic() + _PATIENCE
        while b"Server listening" not in (folder / "log").read_bytes():
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)
        yield {"PATH": f"{folder}/bin:{os.environ['PATH']}"}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_PATIENCE)
        if not was_there:
            _SEPARATION.rmdir()
