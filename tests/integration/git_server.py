"""A git server: the real `git http-backend` behind a small HTTP server on loopback, in a process of its own."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

__all__ = ["git", "git_server", "new_repository"]

_IDENTITY = {
    **{
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "a"), ("EMAIL", "a@b"))
    },
    **{f"GIT_{who}_DATE": "2024-01-01T00:00:00Z" for who in ("AUTHOR", "COMMITTER")},
}


def git(folder: Path, *words: str) -> str:
    """Runs git without any configuration of this machine."""
    environment = {
        "PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_ALLOW_PROTOCOL": "file:http", **_IDENTITY,
    }  # fmt: skip
    done = subprocess.run(
        ["git", "-C", str(folder), *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def new_repository(root: Path, name: str, files: dict[str, str | bytes]) -> Path:
    """A repository with one commit of the files on `main`: a text that begins with `-> ` is a symlink, with `#!` a
    program. It is served as `name`.git."""
    folder = root / f"{name}.git"
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main", ".")
    commit(folder, files)
    return folder


def commit(folder: Path, files: dict[str, str | bytes]) -> str:
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str) and content.startswith("-> "):
            file.symlink_to(content[3:])
            continue
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        if isinstance(content, str) and content.startswith("#!"):
            file.chmod(0o755)
    git(folder, "add", "-A", "-f")
    git(folder, "commit", "-q", "-m", "files")
    return git(folder, "rev-parse", "HEAD")


@contextmanager
def git_server(root: Path, *, token: str = "") -> Iterator[str]:
    """The URL below which the repositories of `root` are. With `token`, only who sends it as docker does gets in."""
    command = [sys.executable, "-u", "-m", "tests.integration.git_server", str(root), token]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.communicate()


class _Handler(BaseHTTPRequestHandler):
    root: Path
    token: str

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers["Content-Length"])))

    def _serve(self, body: bytes) -> None:
        expected = "Basic " + base64.b64encode(f"x-access-token:{self.token}".encode()).decode()
        if self.token and self.headers["Authorization"] != expected:
            self.send_error(401)
            return
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1", "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": self.headers["Content-Type"] or "", "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": self.headers["Git-Protocol"] or "",
        }  # fmt: skip
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = [line.partition(":") for line in head.decode().splitlines()]
        status = next((value.split()[0] for name, _, value in headers if name == "Status"), "200")
        self.send_response(int(status))
        for name, _, value in headers:
            if name != "Status":
                self.send_header(name, value.strip())
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *words: object) -> None:
        pass


if __name__ == "__main__":
    _Handler.root, _Handler.token = Path(sys.argv[1]), sys.argv[2]
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
