"""Asks podman or docker for an image without their client, whose import takes longer than all else of a quick answer.

Docker Engine API, `GET /images/NAME/json`, which both speak, over HTTP/1.0: one request, and the answer to its end.
"""

from __future__ import annotations

import json
import socket

__all__ = ["image_id"]

_PATIENCE = 2.0
"""Seconds for each part of the answer. Who gets none does all of the work, and tells what is wrong."""


def image_id(socket_path: bytes, name: bytes) -> bytes | None:
    """The id of the image of this name, or None when there is none. Raises OSError or ValueError for no answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_PATIENCE)
        connection.connect(socket_path)
        connection.sendall(b"GET /images/%s/json HTTP/1.0\r\nHost: klock\r\n\r\n" % name)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1:2] != [b"200"]:
        return None
    found = json.loads(body)
    return found["Id"].encode() if isinstance(found, dict) and isinstance(found.get("Id"), str) else None
