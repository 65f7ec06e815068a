"""Pods of a cluster: which there are, what they run, and what a command in one of them prints.

`Cluster` is what the rest of this room asks; `KubernetesCluster` asks an API server, with Kubernetes' official client.
What a server or a pod answers is read as data: it may be anything.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from klock.documents import read_json
from klock.errors import FetchError, KlockError
from klock.extras import missing_extra_hint
from klock.fetching.pace import paced_pools

__all__ = ["Cluster", "Container", "ExecFailed", "KubernetesCluster", "Pod", "PodGone"]

T = TypeVar("T")

_PAGE: Final = 500
_LARGEST: Final = 64 << 20
"""Bytes of a page: a pod's object has some kilobytes, and at most 1.5 MB."""
_MOST: Final = 100_000
_BYTES: Final = 4
"""Of a character."""
_ANYWAY: Final = 1 << 20
_PATIENCE: Final = 60
"""Seconds for an answer about pods."""
_HANDSHAKE: Final = re.compile(r"Handshake status (\d{3})\b")
_RESTARTS: Final = 5
"""How often a list that changed too much while it was read is begun again."""
_KUBECONFIG: Final = Path("~/.kube/config")
_OWN_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_LONGEST: Final = 500
"""Characters of what a server says."""
_ERRORS: Final = 2000
"""Bytes of what a command writes to stderr that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """`image_id` is what the node says that it runs. `waits` is the reason why it does not run."""

    name: str
    image_id: str = ""
    runs: bool = False
    waits: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """`phase` is Kubernetes' own word. `is_ending`: somebody has deleted it."""

    namespace: str
    name: str
    phase: str
    reason: str = ""
    is_ending: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)
    containers: tuple[Container, ...] = ()

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class ExecFailed(KlockError):
    """A command in a pod could not be started, failed, or printed too much or for too long."""


class PodGone(ExecFailed):
    """The pod is no longer there."""


class Cluster(Protocol):
    def pods(self, selector: str) -> list[Pod]:
        """All pods with these labels. Raises KlockError when the cluster does not say."""

    def run(
        self, pod: Pod, container: str, command: Sequence[str], *, line: str, most: int, seconds: float
    ) -> Iterator[str]:
        """What a command prints, in pieces: it gets `line` and a line end as input. At most `most` characters.

        Raises ExecFailed; PodGone when the pod is not there any more.
        """


class KubernetesCluster:
    """`klock.fleet.cluster.Cluster` of a kubeconfig, or of the cluster that this process runs in."""

    def __init__(self, *, context: str | None = None, namespace: str | None = None) -> None:
        """Raises KlockError where there is no cluster to ask."""
        try:
            kubernetes: Any = import_module("kubernetes")
        except ImportError as error:
            raise KlockError(
                "asking a cluster needs Kubernetes' client", hint=missing_extra_hint("kubernetes")
            ) from error
        client, config = kubernetes.client, kubernetes.config
        configuration = client.Configuration()
        try:
            # The client looks at this variable only once, when it is imported.
            named = os.environ.get("KUBECONFIG")
            files = {"config_file": named} if named else {}
            # The client's own load_config prints, and gives load_incluster_config options of load_kube_config.
            if named or context or _KUBECONFIG.expanduser().exists():
                own = _namespace(config, context, files)
                config.load_kube_config(context=context, client_configuration=configuration, **files)
            else:
                config.load_incluster_config(client_configuration=configuration)
                own = _own_namespace()
        except (config.ConfigException, TypeError, ValueError, KeyError) as error:
            raise KlockError(
                f"no cluster is configured: {str(error).rstrip('.')}",
                hint=f"set KUBECONFIG, write {_KUBECONFIG}, or choose one of `kubectl config view` with --context",
            ) from error
        self.namespace = namespace or own
        configuration.retries = 2
        self._host = configuration.host
        self._configuration = configuration
        self._client = client
        api = client.ApiClient(configuration)
        # The client reads whatever comes, also of an error, and for as long as it comes.
        api.rest_client.pool_manager.pool_classes_by_scheme = paced_pools(most=_LARGEST)
        self._api: Any = client.CoreV1Api(api)

    def pods(self, selector: str) -> list[Pod]:
        for _ in range(_RESTARTS):
            found: list[Pod] | None = self._all_pages(selector)
            if found is not None:
                return found
        raise FetchError(f"the pods of {self.namespace} change too fast to be listed", hint="try again")

    def _all_pages(self, selector: str) -> list[Pod] | None:
        """None when the server has forgotten where the next page begins."""
        found: list[Pod] = []
        following: str | None = None
        while True:
            page = self._asked(
                functools.partial(self._page, selector, following),
                what=f"list pods in the namespace {self.namespace}",
                gone=following is not None,
            )
            if page is None:
                return None
            document = _document(page, self._host)
            items = document.get("items")
            if not isinstance(items, list):
                raise FetchError(
                    f"{self._host} did not answer with a list of pods", hint="is it a Kubernetes API server?"
                )
            found += [_pod(item) for item in items]
            if len(found) > _MOST:
                raise FetchError(
                    f"{self._host} lists more than {_MOST} pods", hint="choose fewer of them with --selector"
                )
            following = _text(_mapping(document.get("metadata")).get("continue")) or None
            if following is None:
                return found
            if not items:
                raise FetchError(f"{self._host} lists pods without end", hint="is it a Kubernetes API server?")

    def _page(self, selector: str, following: str | None) -> bytes:
        page = {"_continue": following} if following else {}
        answer = self._api.list_namespaced_pod(
            self.namespace,
            label_selector=selector,
            limit=_PAGE,
            _preload_content=False,
            _request_timeout=_PATIENCE,
            **page,
        )
        return bytes(answer.data)

    def run(
        self, pod: Pod, container: str, command: Sequence[str], *, line: str, most: int, seconds: float
    ) -> Iterator[str]:
        from kubernetes.stream import stream

        # Each has a client of its own: `stream` replaces how one sends its requests.
        api = self._client.CoreV1Api(self._client.ApiClient(self._configuration))
        socket: Any = self._asked(
            lambda: stream(
                api.connect_get_namespaced_pod_exec,
                pod.name,
                pod.namespace,
                container=container,
                command=list(command),
                stdin=True,
                stdout=True,
                stderr=True,
                tty=False,
                _preload_content=False,
                _request_timeout=seconds,
            ),
            what=f"run a command in {pod}",
            pod=pod,
        )
        from websocket import WebSocketException, WebSocketTimeoutException

        try:
            yield from _printed(socket, line, most=most, until=time.monotonic() + seconds)
        except WebSocketTimeoutException as error:
            raise _too_long() from error
        except (WebSocketException, OSError) as error:
            raise ExecFailed(f"the connection broke: {str(error)[:200]}") from error
        finally:
            with suppress(WebSocketException, OSError):
                socket.close()

    def _asked(self, ask: Callable[[], T], *, what: str, gone: bool = False, pod: Pod | None = None) -> T | None:
        """What the server answers; with `gone` None for 410. Raises KlockError that says what it refused."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return ask()
        except ApiException as error:
            status = _status(error)
            if status == 410 and gone:
                return None
            if pod is not None and status == 404:
                raise PodGone(f"{pod} is gone") from error
            raise _refused(error, status, what, self._host, pod) from error
        except (HTTPError, OSError) as error:
            raise FetchError(
                f"{self._host} does not answer: {error}", hint="is the cluster up, and the VPN? try `kubectl get pods`"
            ) from error


def _own_namespace() -> str:
    """That of the pod that this process runs in."""
    try:
        return _OWN_NAMESPACE.read_text("utf-8").strip() or "default"
    except OSError:
        return "default"


def _namespace(config: Any, context: str | None, files: Mapping[str, str]) -> str:
    """The one that kubectl would use."""
    try:
        contexts, active = config.list_kube_config_contexts(**files)
    except config.ConfigException:
        return "default"
    chosen = next((each for each in contexts if each.get("name") == context), active) if context else active
    return _text(_mapping(_mapping(chosen).get("context")).get("namespace")) or "default"


def _status(error: Any) -> int:
    """Of a refused websocket the client has it in a sentence alone."""
    found = _HANDSHAKE.match(_text(error.reason))
    return int(found[1]) if found else error.status or 0


def _refused(error: Any, status: int, what: str, host: str, pod: Pod | None) -> KlockError:
    # That sentence goes on with all headers, which are nobody's business.
    reason = "" if _HANDSHAKE.match(_text(error.reason)) else _text(error.reason)
    said = " ".join(_text(_mapping(_json(error.body)).get("message")).split())[:_LONGEST] or reason or str(status)
    if status == 401:
        return FetchError(f"{host} does not know you: {said}", hint="log in to the cluster: try `kubectl get pods`")
    if status == 403:
        rights = "create pods/exec" if pod is not None else "list pods"
        also = "; or compare without it: --image-only" if pod is not None else ""
        return FetchError(
            f"{host} does not let you {what}: {said}", hint=f"ask for the right to {rights} in this namespace{also}"
        )
    kind = ExecFailed if pod is not None else FetchError
    return kind(f"{host} could not {what}: {said}")


def _printed(socket: Any, line: str, *, most: int, until: float) -> Iterator[str]:
    """What the command writes to stdout. Raises ExecFailed."""
    # Before anything is read: the client reads on and on while there is something, and whole frames at that.
    frames = socket.sock.frame_buffer
    frames.recv = _bounded(frames.recv, most=most * _BYTES + _ANYWAY, until=until)
    socket.sock.settimeout(max(until - time.monotonic(), 1))
    socket.write_stdin(line + "\n")
    errors, printed = "", 0
    is_open = True
    while is_open:
        left = until - time.monotonic()
        if left <= 0:
            raise _too_long()
        socket.update(timeout=min(left, 1))
        is_open = socket.is_open()
        errors = (errors + socket.read_stderr(timeout=0))[-_ERRORS:]
        piece = socket.read_stdout(timeout=0)
        printed += len(piece)
        if printed > most:
            raise _too_much()
        if piece:
            yield piece
    status = _json(socket.read_channel(3))
    if _mapping(status).get("status") != "Success":
        said = errors.strip().splitlines()[-1:] or [_text(_mapping(status).get("message")) or "the connection broke"]
        raise ExecFailed(f"its Python could not read its files: {said[0][:300]}")


def _bounded(receive: Callable[[int], bytes], *, most: int, until: float) -> Callable[[int], bytes]:
    """`receive` of a socket, for at most so many bytes and so long. Raises ExecFailed."""
    received = 0

    def bounded(size: int) -> bytes:
        nonlocal received
        chunk = receive(size)
        received += len(chunk)
        if received > most:
            raise _too_much()
        if time.monotonic() > until:
            raise _too_long()
        return chunk

    return bounded


def _too_much() -> ExecFailed:
    return ExecFailed("it prints more than its files could be")


def _too_long() -> ExecFailed:
    return ExecFailed("it took too long: raise --timeout")


def _pod(item: object) -> Pod:
    metadata, status = _mapping(_mapping(item).get("metadata")), _mapping(_mapping(item).get("status"))
    annotations = _mapping(metadata.get("annotations"))
    states = status.get("containerStatuses")
    return Pod(
        namespace=_text(metadata.get("namespace")),
        name=_text(metadata.get("name")),
        phase=_text(status.get("phase")) or "Unknown",
        reason=_text(status.get("reason")),
        is_ending=metadata.get("deletionTimestamp") is not None,
        annotations={name: value for name, value in annotations.items() if isinstance(value, str)},
        containers=tuple(_container(each) for each in states) if isinstance(states, list) else (),
    )


def _container(item: object) -> Container:
    found = _mapping(item)
    state = _mapping(found.get("state"))
    waits = _text(_mapping(state.get("waiting")).get("reason")) or _text(
        _mapping(state.get("terminated")).get("reason")
    )
    return Container(
        name=_text(found.get("name")), image_id=_text(found.get("imageID")), runs="running" in state, waits=waits
    )


def _document(content: bytes, host: str) -> Mapping[str, Any]:
    document = _json(content)
    if not isinstance(document, dict):
        raise FetchError(f"{host} did not answer as a Kubernetes API server does", hint="see `kubectl config view`")
    return document


def _json(content: object) -> object:
    if not isinstance(content, str | bytes):
        return None
    try:
        return read_json(content, any_text=True)
    except ValueError:
        return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
