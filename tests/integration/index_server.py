"""A small package index on loopback, made of a folder of real wheels and sdists: PEP 503 (HTML) and PEP 691 (JSON).

    make_wheel(folder, "demo", "1.0", requires=["six"])
    with IndexServer(folder) as index:
        index.url                       # http://127.0.0.1:PORT/simple/
        index.url_for("user", "pass")   # the same with credentials in it
        index.requests                  # every path that was asked for, in order
    index.authorizations            # every Authorization header that came with one

`tls` and `address` make it an https server of that address, for a name in /etc/hosts. `upstream` is another index, to
which it redirects for projects it does not have, as company indexes do.
`username` and `password` make it ask for HTTP Basic authentication (RFC 7617). `yanked` maps file names to the reason,
`uploaded` to the time when they came, `pythons` to the Pythons they are for. `status` is what it answers every page
with, `hashes` are what it says of some files instead of their SHA-256, `without_hashes` leaves the hashes out as old
indexes do, `without_sizes` leaves PEP 700 sizes out. PEP 658
metadata is served for wheels unless `without_metadata`.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import io
import json
import ssl
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn
from types import TracebackType
from urllib.parse import quote, unquote, urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

__all__ = ["IndexServer", "make_sdist", "make_wheel", "private_pypiserver"]

_JSON = "application/vnd.pypi.simple.v1+json"


class IndexServer:
    """Serves `folder` until the `with` block ends. Files added meanwhile are served too."""

    def __init__(
        self,
        folder: Path,
        *,
        username: str | None = None,
        password: str | None = None,
        yanked: Mapping[str, str] | None = None,
        status: int = 200,
        uploaded: Mapping[str, str] | None = None,
        pythons: Mapping[str, str] | None = None,
        hashes: Mapping[str, Mapping[str, str]] | None = None,
        without_hashes: bool = False,
        without_sizes: bool = False,
        without_metadata: bool = False,
        address: tuple[str, int] = ("127.0.0.1", 0),
        tls: ssl.SSLContext | None = None,
        upstream: str | None = None,
    ) -> None:
        self.folder = folder
        self.upstream = upstream
        self.yanked = dict(yanked or {})
        self.status = status
        self.uploaded = dict(uploaded or {})
        self.pythons = dict(pythons or {})
        self.hashes = dict(hashes or {})
        self.without_hashes = without_hashes
        self.without_sizes = without_sizes
        self.without_metadata = without_metadata
        self.requests: list[str] = []
        self.authorizations: set[str] = set()
        self.credentials = f"{username}:{password}" if username is not None else None
        self._server = ThreadingHTTPServer(address, _handler_for(self))
        self._server.daemon_threads = True
        if tls is not None:
            # Each connection's own thread shakes hands: one that never does must not stop the server.
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/simple/"

    def url_for(self, username: str, password: str) -> str:
        return f"http://{quote(username, safe='')}:{quote(password, safe='')}@127.0.0.1:{self.port}/simple/"

    def __enter__(self) -> IndexServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def projects(self) -> dict[str, list[Path]]:
        """The files of each project by its normalised name."""
        found: dict[str, list[Path]] = {}
        for path in sorted(self.folder.iterdir()):
            if path.name.endswith(".whl"):
                name: str = parse_wheel_filename(path.name)[0]
            elif path.name.endswith((".tar.gz", ".zip")):
                name = parse_sdist_filename(path.name)[0]
            else:
                continue
            found.setdefault(canonicalize_name(name), []).append(path)
        return found


@contextmanager
def private_pypiserver(folder: Path, tls: ssl.SSLContext, login: tuple[str, str]) -> Iterator[str]:
    """pypiserver itself, on loopback, over https and for those alone who log in; the URL of its index."""
    import pypiserver  # type: ignore[import-untyped]

    app = pypiserver.app(
        roots=[folder], authenticate=["list", "download"], auther=lambda *given: given == login, disable_fallback=True
    )

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    class Handler(WSGIRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = make_server("127.0.0.1", 0, app, server_class=Server, handler_class=Handler)
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    *,
    requires: Sequence[str] = (),
    extras: Mapping[str, Sequence[str]] | None = None,
    files: Mapping[str, str] | None = None,
    scripts: Mapping[str, str] | None = None,
    tag: str = "py3-none-any",
    python: str | None = None,
) -> Path:
    """Writes a real wheel: a module `NAME` with `__version__`, more `files`, `scripts` (name -> entry point). `python`
    says which Pythons it is for."""
    module = canonicalize_name(name).replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = _metadata_text(name, version, requires, extras or {})
    if python is not None:
        metadata += f"Requires-Python: {python}\n"
    contents = {
        f"{module}/__init__.py": f"__version__ = {version!r}\n",
        **(files or {}),
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    if scripts:
        entries = "".join(f"{script} = {target}\n" for script, target in scripts.items())
        contents[f"{info}/entry_points.txt"] = f"[console_scripts]\n{entries}"
    record = []
    for path, text in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(text.encode())}\n")
    contents[f"{info}/RECORD"] = "".join(record) + f"{info}/RECORD,,\n"
    wheel = folder / f"{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in contents.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), text)
    return wheel


def make_sdist(folder: Path, name: str, version: str, *, files: Mapping[str, str], metadata: str | None = None) -> Path:
    """Writes a real sdist of `files` (`pyproject.toml` and the rest). Only a build tells its metadata."""
    top = f"{canonicalize_name(name).replace('-', '_')}-{version}"
    contents = {"PKG-INFO": metadata or f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", **files}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for path, text in contents.items():
            member = tarfile.TarInfo(f"{top}/{path}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    sdist = folder / f"{top}.tar.gz"
    sdist.write_bytes(gzip.compress(raw.getvalue(), mtime=0))
    return sdist


def _metadata_text(name: str, version: str, requires: Sequence[str], extras: Mapping[str, Sequence[str]]) -> str:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    for extra, requirements in extras.items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f'Requires-Dist: {requirement}; extra == "{extra}"' for requirement in requirements]
    return "\n".join(lines) + "\n"


def _metadata_of(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return archive.read(name)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _handler_for(index: IndexServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Silent: tests read `requests` instead."""

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            index.requests.append(path)
            if authorization := self.headers.get("Authorization"):
                index.authorizations.add(authorization)
            if index.credentials is not None:
                expected = "Basic " + base64.b64encode(index.credentials.encode()).decode("ascii")
                if self.headers.get("Authorization") != expected:
                    headers = {"WWW-Authenticate": 'Basic realm="index"'}
                    return self._send(401, b"who are you?", "text/plain", headers, with_body=with_body)
            parts = [part for part in path.split("/") if part]
            if parts[:1] == ["files"] and len(parts) == 2:
                return self._file(parts[1], with_body=with_body)
            if parts == ["simple"] or (parts[:1] == ["simple"] and len(parts) == 2):
                return self._page(parts[1] if len(parts) == 2 else None, with_body=with_body)
            return self._send(404, b"not found", "text/plain", {}, with_body=with_body)

        def _file(self, name: str, *, with_body: bool) -> None:
            if name.endswith(".whl.metadata"):
                wheel = index.folder / name.removesuffix(".metadata")
                if wheel.is_file() and not index.without_metadata:
                    return self._send(200, _metadata_of(wheel), "application/octet-stream", {}, with_body=with_body)
            path = index.folder / name
            if "/" in name or not path.is_file():
                return self._send(404, b"not found", "text/plain", {}, with_body=with_body)
            content = path.read_bytes()
            headers = {"Accept-Ranges": "bytes"}
            wanted = self.headers.get("Range", "")
            if wanted.startswith("bytes="):
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                start = int(first) if first else len(content) - int(last)
                end = int(last) if first and last else len(content) - 1
                headers["Content-Range"] = f"bytes {start}-{min(end, len(content) - 1)}/{len(content)}"
                return self._send(
                    206, content[start : end + 1], "application/octet-stream", headers, with_body=with_body
                )
            return self._send(200, content, "application/octet-stream", headers, with_body=with_body)

        def _page(self, project: str | None, *, with_body: bool) -> None:
            if index.status != 200:
                return self._send(index.status, b"", "text/plain", {}, with_body=with_body)
            projects = index.projects()
            if project is None:
                links = "".join(f'<a href="{name}/">{name}</a>\n' for name in projects)
                return self._send(200, f"<!DOCTYPE html>\n{links}".encode(), "text/html", {}, with_body=with_body)
            if project not in projects and index.upstream is not None:
                headers = {"Location": f"{index.upstream.rstrip('/')}/{project}/"}
                return self._send(302, b"ask there", "text/plain", headers, with_body=with_body)
            if project not in projects:
                return self._send(404, b"no such project", "text/plain", {}, with_body=with_body)
            files = [self._describe(path) for path in projects[project]]
            if _JSON in self.headers.get("Accept", ""):
                page = {"meta": {"api-version": "1.1"}, "name": project, "files": files}
                return self._send(200, json.dumps(page).encode(), _JSON, {}, with_body=with_body)
            lines = []
            for file in files:
                hashes = file["hashes"]
                fragment = f"#sha256={hashes['sha256']}" if isinstance(hashes, dict) and hashes else ""
                yanked = f' data-yanked="{html.escape(str(file["yanked"]))}"' if file.get("yanked") else ""
                python = html.escape(str(file.get("requires-python", "")))
                yanked += f' data-requires-python="{python}"' if python else ""
                lines.append(f'<a href="{file["url"]}{fragment}"{yanked}>{file["filename"]}</a>\n')
            return self._send(
                200, ("<!DOCTYPE html>\n" + "".join(lines)).encode(), "text/html", {}, with_body=with_body
            )

        def _describe(self, path: Path) -> dict[str, object]:
            content = path.read_bytes()
            file: dict[str, object] = {
                "filename": path.name,
                "url": f"/files/{quote(path.name)}",
                "hashes": index.hashes.get(path.name, {} if index.without_hashes else {"sha256": _sha256(content)}),
            }
            if not index.without_sizes:
                file["size"] = len(content)
            if path.name in index.uploaded:
                file["upload-time"] = index.uploaded[path.name]
            if path.name in index.pythons:
                file["requires-python"] = index.pythons[path.name]
            if path.name in index.yanked:
                file["yanked"] = index.yanked[path.name]
            if path.suffix == ".whl" and not index.without_metadata:
                file["core-metadata"] = {"sha256": _sha256(_metadata_of(path))}
            return file

        def _send(
            self, status: int, content: bytes, media_type: str, headers: Mapping[str, str], *, with_body: bool
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(content)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(content)

    return Handler
