"""Reads the machine's specifications of devices, in the format of the Container Device Interface (CDI, SPEC.md 0.8.0).

A file says, for devices of one kind, what a container needs to use them. `nvidia-ctk cdi generate` writes one for
GPUs; any other vendor's are as good here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from klock.documents import read_json
from klock.errors import EngineError
from klock.extras import missing_extra_hint
from klock.gpu.edits import ContainerEdits, DeviceMount, DeviceNode, Hook
from klock.values import dataclass

__all__ = ["FOLDERS", "HOOK_NAMES", "Specifications", "is_qualified", "read_specifications"]

T = TypeVar("T")

FOLDERS: Final = (Path("/etc/cdi"), Path("/var/run/cdi"))
"""Where specifications are; those of a later folder take the place of an earlier one's."""

HOOK_NAMES: Final = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_EDITS: Final = ("env", "deviceNodes", "mounts", "hooks", "additionalGids")
_LAST_GID: Final = 2**32 - 2
"""The kernel takes one more for none."""
_CHOOSE: Final = "choose other devices with --gpus or --device"
_VERSIONS: Final = re.compile(r"v?(0\.[3-8]\.\d+|1\.\d+\.\d+)")
_KIND: Final = re.compile(r"[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?/[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?")
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Device:
    source: Path
    common: ContainerEdits
    edits: ContainerEdits


class Specifications:
    """All devices of the machine, by qualified name (`vendor.com/class=name`).

    A file that cannot be read stops nobody who asks for devices of other files.
    """

    def __init__(
        self,
        devices: Mapping[str, _Device],
        conflicts: Mapping[str, tuple[Path, Path]],
        broken: Sequence[EngineError],
    ) -> None:
        self._devices = dict(devices)
        self._conflicts = dict(conflicts)
        self._broken = list(broken)

    def refuse_broken(self) -> None:
        """Raises EngineError when there is a file that cannot be read: it may have what was not found elsewhere."""
        if self._broken:
            raise self._broken[0]

    def names(self, kind: str) -> list[str]:
        """The names of a kind's devices (`0`, `all`), numbers first and in order."""
        found = [name.partition("=")[2] for name in self._devices if name.startswith(f"{kind}=")]
        return sorted(found, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))

    def edits_of(self, names: Sequence[str]) -> ContainerEdits:
        """What a container needs to use the devices of these qualified names, those of a file once.

        Raises EngineError for a name that is unknown, or that two files of one folder have.
        """
        edits = ContainerEdits()
        for name in names:
            if name in self._conflicts:
                one, other = self._conflicts[name]
                raise EngineError(f"the device {name} is in both {one} and {other}", hint="remove one of the files")
            if name not in self._devices:
                self.refuse_broken()
                known = f"choose one of {', '.join(sorted(self._devices))}, or write" if self._devices else "write"
                raise EngineError(
                    f"no CDI specification of this machine has the device {name}",
                    hint=f"{known} a specification with the vendor's tool: "
                    "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
                )
            device = self._devices[name]
            edits = edits + device.common + device.edits
        return edits


def is_qualified(text: str) -> bool:
    """Whether this is a device's whole name: `vendor.com/class=name`."""
    kind, equals, name = text.partition("=")
    return bool(equals and _KIND.fullmatch(kind) and _NAME.fullmatch(name))


def read_specifications(folders: Iterable[Path] = FOLDERS) -> Specifications:
    """Reads the `.json` and `.yaml` files of `folders`."""
    devices: dict[str, _Device] = {}
    broken: list[EngineError] = []
    conflicts: dict[str, tuple[Path, Path]] = {}
    for folder in folders:
        here: dict[str, _Device] = {}
        files = sorted(f for f in folder.glob("*") if f.suffix in (".json", ".yaml", ".yml")) if folder.is_dir() else []
        for file in files:
            try:
                found = _read(file)
            except EngineError as error:
                broken.append(error)
                continue
            for name, device in found.items():
                conflicts.pop(name, None)
                if name in here:
                    conflicts[name] = (here[name].source, file)
                here[name] = device
        devices |= here
    return Specifications(devices, conflicts, broken)


def _read(file: Path) -> dict[str, _Device]:
    content = _Part(_parsed(file), f"{file}: ")
    version = content.text("cdiVersion")
    if not _VERSIONS.fullmatch(version):
        raise content.refusal("cdiVersion", f"is {version!r}, which klock does not know")
    kind = content.text("kind")
    if not _KIND.fullmatch(kind):
        raise content.refusal("kind", f"is {kind!r}, not like vendor.com/class")
    common = _edits(content.part("containerEdits"))
    found = {}
    for device in content.parts("devices"):
        name = device.value.get("name")
        name = str(name) if isinstance(name, int) else device.text("name")
        if not _NAME.fullmatch(name):
            raise device.refusal("name", f"is {name!r}, which is not a device's name")
        edits = _edits(device.part("containerEdits"))
        found[f"{kind}={name}"] = _Device(source=file, common=common, edits=edits)
    if not found:
        raise content.refusal("devices", "has no device")
    return found


def _parsed(file: Path) -> Any:
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"{file} cannot be read: {error}") from error
    if file.suffix == ".json":
        try:
            return read_json(text)
        except (ValueError, RecursionError) as error:
            raise EngineError(f"{file} is not JSON: {error}") from error
    try:
        import yaml
    except ImportError as error:
        raise EngineError(f"reading {file} needs PyYAML", hint=missing_extra_hint("gpu")) from error
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:  # a date such as 2024-99-99
        raise EngineError(f"{file} is not YAML: {error}") from error


class _Part:
    """A mapping of a specification; errors say where in the file it is."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise EngineError(f"{where.rstrip(': .')} is not a mapping")
        self.value: dict[str, Any] = value
        self._where = where

    def refusal(
        self, field: str, words: str, *, hint: str = "generate the file again with the vendor's tool"
    ) -> EngineError:
        return EngineError(f"{self._where}{field} {words}", hint=hint)

    def text(self, field: str) -> str:
        value = self.value.get(field)
        if not isinstance(value, str) or not value:
            raise self.refusal(field, "is missing" if value is None else "is not a string")
        if "\0" in value:
            raise self.refusal(field, "holds a NUL character")
        return value

    def optional(self, field: str, kind: type[T]) -> T | None:
        value = self.value.get(field)
        if value is None or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
            return value
        raise self.refusal(field, f"is {value!r}, not a {kind.__name__}")

    def texts(self, field: str) -> tuple[str, ...]:
        value = self.value.get(field) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.refusal(field, "is not a list of strings")
        if any("\0" in item for item in value):
            raise self.refusal(field, "holds a NUL character")
        return tuple(value)

    def part(self, field: str) -> _Part:
        return _Part(self.value.get(field) or {}, f"{self._where}{field}.")

    def parts(self, field: str) -> list[_Part]:
        value = self.value.get(field) or []
        if not isinstance(value, list):
            raise self.refusal(field, "is not a list")
        return [_Part(item, f"{self._where}{field}[{number}].") for number, item in enumerate(value)]


def _edits(part: _Part) -> ContainerEdits:
    for field in part.value:
        if field not in _EDITS:
            raise part.refusal(field, "is an edit that klock does not support", hint=_CHOOSE)
    gids = part.value.get("additionalGids") or []
    if not isinstance(gids, list) or not all(type(gid) is int and 0 <= gid <= _LAST_GID for gid in gids):
        raise part.refusal("additionalGids", f"is not a list of numbers from 0 to {_LAST_GID}")
    return ContainerEdits(
        environment=dict(_variable(part, text) for text in part.texts("env")),
        device_nodes=tuple(map(_node, part.parts("deviceNodes"))),
        mounts=tuple(map(_mount, part.parts("mounts"))),
        hooks=tuple(map(_hook, part.parts("hooks"))),
        additional_gids=tuple(gids),
    )


def _variable(part: _Part, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise part.refusal("env", f"has {text!r}, which is not NAME=VALUE")
    return name, value


def _absolute(part: _Part, field: str) -> str:
    path = part.text(field)
    if not path.startswith("/") or ".." in path.split("/"):
        raise part.refusal(field, f"is {path!r}, not an absolute path")
    return path


def _node(part: _Part) -> DeviceNode:
    return DeviceNode(
        path=_absolute(part, "path"),
        host_path=_absolute(part, "hostPath") if part.value.get("hostPath") else None,
        type=part.optional("type", str),
        major=part.optional("major", int),
        minor=part.optional("minor", int),
        file_mode=part.optional("fileMode", int),
        permissions=part.optional("permissions", str),
        uid=part.optional("uid", int),
        gid=part.optional("gid", int),
    )


def _mount(part: _Part) -> DeviceMount:
    if part.value.get("type") not in (None, "", "none", "bind", "rbind"):
        words = f"is {part.value['type']!r}: klock mounts files and folders of the host only"
        raise part.refusal("type", words, hint=_CHOOSE)
    return DeviceMount(
        host_path=_absolute(part, "hostPath"),
        container_path=_absolute(part, "containerPath"),
        options=part.texts("options"),
        type=part.optional("type", str),
    )


def _hook(part: _Part) -> Hook:
    name = part.text("hookName")
    if name not in HOOK_NAMES:
        raise part.refusal("hookName", f"is {name!r}, not one of {', '.join(HOOK_NAMES)}")
    return Hook(
        name=name,
        path=_absolute(part, "path"),
        arguments=part.texts("args"),
        environment=part.texts("env"),
        timeout=part.optional("timeout", int),
    )
