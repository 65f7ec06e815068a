"""An npm registry: packuments, whole and abbreviated by Accept, and tarballs as `npm pack` makes them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any, Final

from tests.integration.upstream.connections import Answer, Request, conditional

__all__ = ["NpmRegistry"]

_ABBREVIATED: Final = "application/vnd.npm.install-v1+json"
_PACKAGES: Final[Mapping[str, Mapping[str, str]]] = {
    "greet-cli": {
        "package.json": json.dumps(
            {
                "name": "greet-cli",
                "version": "1.2.0",
                "bin": {"greet": "cli.js"},
                "dependencies": {"@upstream/words": "^2.0.0"},
            }
        ),
        "cli.js": "#!/usr/bin/env node\nconsole.log(require('@upstream/words').join(' '));\n",
    },
    "@upstream/words": {
        "package.json": json.dumps({"name": "@upstream/words", "version": "2.1.0", "main": "index.js"}),
        "index.js": "module.exports = ['good', 'day'];\n",
    },
}


class NpmRegistry:
    """`url` is what it is reached by: packuments name their tarballs absolutely."""

    def __init__(self, url: str) -> None:
        self._answers: dict[str, Answer] = {}
        self._packuments: dict[str, dict[str, Any]] = {}
        for name, files in _PACKAGES.items():
            package = json.loads(files["package.json"])
            tarball = _pack(files)
            path = f"/{name}/-/{name.rpartition('/')[2]}-{package['version']}.tgz"
            self._answers[path] = Answer(body=tarball, headers={"Content-Type": "application/octet-stream"})
            integrity = base64.b64encode(hashlib.sha512(tarball).digest()).decode()
            distribution = {
                "tarball": url + path,
                "shasum": hashlib.sha1(tarball).hexdigest(),
                "integrity": f"sha512-{integrity}",
            }
            version = package["version"]
            self._packuments[f"/{name}"] = {
                "name": name,
                "dist-tags": {"latest": version},
                "versions": {version: {**package, "dist": distribution}},
            }

    def __call__(self, request: Request) -> Answer:
        if (answer := self._answers.get(request.path)) is not None:
            return conditional(request, answer)
        packument = self._packuments.get(request.path)
        if packument is None:
            return Answer(status=404, body=b'{"error":"Not found"}', headers={"Content-Type": "application/json"})
        if _ABBREVIATED in request.header("Accept"):
            headers = {"Content-Type": _ABBREVIATED, "Vary": "Accept, Accept-Encoding"}
        else:
            headers = {"Content-Type": "application/json", "Vary": "Accept, Accept-Encoding"}
            packument = {**packument, "readme": "# what it is for\n", "time": {"modified": "2024-01-01T00:00:00.000Z"}}
        body = json.dumps(packument).encode()
        if "gzip" in request.header("Accept-Encoding"):
            return Answer(body=gzip.compress(body, mtime=0), headers=headers | {"Content-Encoding": "gzip"})
        return Answer(body=body, headers=headers)


def _pack(files: Mapping[str, str]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(f"package/{path}")
            member.size = len(text.encode())
            member.mode = 0o755 if text.startswith("#!") else 0o644
            # The time that npm gives every file of a package.
            member.mtime = 499_162_500
            archive.addfile(member, io.BytesIO(text.encode()))
    return gzip.compress(raw.getvalue(), mtime=0)
