"""Runs an image file (`kimage.py`) and takes the image out of it; of a Dockerfile, reads it.

The Python file runs as a fresh module each time, with its own folder importable while it runs. Nothing of it stays
behind: no `.pyc`, no entry in `sys.path` or `sys.modules`. What it prints goes to stderr, since stdout is for data.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from klock.errors import ImageError, KlockError
from klock.image.conflicts import conflict_in
from klock.patterns import regex
from klock.secrets.masking import mask
from klock.values import dataclass, field

if TYPE_CHECKING:
    from klock.image.builder import Image

__all__ = ["BuildOptions", "ImageReference", "LoadedImage", "in_folder", "load", "lockfile_of"]

_DOCKERFILE: Final = regex(r"(?:.*[._-])?(?:dockerfile|containerfile)(?:[._-].*)?", re.IGNORECASE)
_ELSEWHERE: Final = {
    "env": "set_env_vars",
    "run": "run_bash",
    "run_commands": "run_bash",
    "dockerfile_commands": "run_bash",
    "add_local_file": "copy",
    "add_local_dir": "copy",
    "add_local_python_source": "sync_package",
    "from_registry": "from_docker",
}
"""What Modal and Dockerfiles call it."""
_WITHOUT_IMAGE: Final = regex(r"(?:\w+\.)?(?P<method>\w+)\(\) missing \d+ required positional arguments?: ")
_UNEXPECTED: Final = regex(r"(?:\w+\.)?(?P<method>\w+)\(\) got an unexpected keyword argument '(?P<name>\w+)'")
_PYTHONS_HINT: Final = regex(r"\. Did you mean:? '[^']*'\?$")
"""What newer Pythons add to a message themselves: klock's hint says the same, or more."""
_NO_PYTHON: Final = "a Dockerfile is known by its name: Dockerfile, Containerfile, gpu.Dockerfile or Dockerfile.gpu"
_DEFAULT: Final = "image"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReference:
    """`FILE[:NAME]`: the object `name` (default `image`) of the Python file `file` (absolute), or the stage of that
    name (default: the last) of a Dockerfile."""

    file: Path
    name: str = _DEFAULT

    @property
    def is_dockerfile(self) -> bool:
        return self.file.suffix != ".py" and _DOCKERFILE.fullmatch(self.file.name) is not None

    @classmethod
    def parse(cls, text: str, *, folder: Path) -> ImageReference:
        """`folder` is where a relative FILE starts. Raises ImageError."""
        file, colon, name = text.rpartition(":")
        if not colon or "/" in name:
            file, name = text, _DEFAULT
        path = Path(os.path.normpath(folder.absolute() / Path(file).expanduser()))
        reference = cls(file=path, name=name)
        is_name = re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) if reference.is_dockerfile else name.isidentifier()
        if not file or not is_name:
            raise ImageError(f"not an image: {text!r}", hint="write FILE or FILE:NAME, such as kimage.py:image")
        return reference


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What a Dockerfile is read with besides its text: values of its ARGs, the folder that COPY takes files
    from, and the triggers (ONBUILD) of its bases, by their names."""

    build_args: Mapping[str, str] = field(default_factory=dict)
    context: Path | None = None
    triggers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_NO_OPTIONS: Final = BuildOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedImage:
    """`image` is the object `name` of `file`, or the stage of a Dockerfile; `root` is the file's folder, where the
    image's relative paths start."""

    image: Image
    file: Path
    name: str
    root: Path

    @property
    def is_dockerfile(self) -> bool:
        return ImageReference(file=self.file, name=self.name).is_dockerfile

    @property
    def label(self) -> str:
        """How messages call the image: `kimage.py`, or `kimage.py:gpu`."""
        return self.file.name if self.name == _DEFAULT else f"{self.file.name}:{self.name}"

    @property
    def locations(self) -> tuple[str | None, ...]:
        """The builder calls of the steps, as messages show them: `kimage.py:7`."""
        return tuple(step.location.below(self.root) if step.location else None for step in self.image.steps)

    @property
    def locations_of_stages(self) -> dict[str, tuple[str | None, ...]]:
        """The same of the stages that files are taken from, by name."""
        return {
            stage.name: tuple(step.location.below(self.root) if step.location else None for step in stage.steps)
            for stage in self.image.stages
        }

    @property
    def base_location(self) -> str | None:
        """The builder call of the base."""
        base = self.image.base
        return base.location.below(self.root) if base and base.location else None


def in_folder(folder: Path, name: str = _DEFAULT) -> ImageReference:
    """The image of a folder: its `kimage.py`, or else its `Dockerfile`."""
    files = [folder / name for name in ("kimage.py", "Dockerfile", "Containerfile")]
    return ImageReference(file=next((file for file in files if file.is_file()), files[0]), name=name)


def lockfile_of(reference: ImageReference) -> Path:
    """`kimage.lock` beside `kimage.py`, and beside a `Dockerfile` without a `kimage.py`; else with the file's name.
    `kimage.NAME.lock` for an object or a stage that is named."""
    file, name = reference.file, "" if reference.name == _DEFAULT else f".{reference.name}"
    if not reference.is_dockerfile:
        return file.with_name(f"{file.stem}{name}.lock")
    is_usual = file.name in ("Dockerfile", "Containerfile") and not file.with_name("kimage.py").exists()
    return file.with_name(f"{'kimage' if is_usual else file.name}{name}.lock")


def load(reference: ImageReference, options: BuildOptions = _NO_OPTIONS) -> LoadedImage:
    """Raises ImageError when the file is missing, fails, or has no such image."""
    file = reference.file
    if not file.is_file():
        here = in_folder(Path.cwd()).file
        hint = "write one with `klock init`, or name another: FILE or FILE:NAME"
        if here.is_file() and here != file:
            hint = f"this folder has {here.name}: name it, after `klock run` as --image {here.name}"
        raise ImageError(f"there is no image file {_shown(file)}", hint=hint)
    if file.suffix == ".lock":
        raise ImageError(
            f"{_shown(file)} is a lockfile, not an image", hint="name the image that it is of, such as kimage.py"
        )
    if reference.is_dockerfile:
        return _read_dockerfile(reference, options)
    if options.build_args or options.context is not None:
        raise ImageError(
            f"{_shown(file)} is not a Dockerfile, and takes neither --build-arg nor --context",
            hint="give them in it: Image.from_dockerfile(..., build_args={...}, context=...)",
        )
    image = _image_in(_run(file), reference)
    return LoadedImage(image=image, file=file, name=reference.name, root=file.parent)


def _read_dockerfile(reference: ImageReference, options: BuildOptions) -> LoadedImage:
    from klock.image.builder import Image
    from klock.image.dockerfile.part import Reading, read_part

    file, name = reference.file, reference.name
    stage = None if name == _DEFAULT else name
    reading = Reading(
        path=file, context=options.context, stage=stage, build_args=options.build_args, triggers=options.triggers
    )
    return LoadedImage(image=Image._of_dockerfile(read_part(reading)), file=file, name=name, root=file.parent)


def _image_in(module: ModuleType, reference: ImageReference) -> Image:
    from klock.image.builder import Image

    label = _shown(reference.file)
    found = getattr(module, reference.name, None)
    if isinstance(found, Image):
        return found
    others = [name for name, value in vars(module).items() if isinstance(value, Image)]
    hint = (
        f"it has {'an image' if len(others) == 1 else 'images'} named {', '.join(others)}: write {label}:{others[0]}"
        if others
        else f"define one: {reference.name} = klock.images.Python312().pip_install([...])"
    )
    if not hasattr(module, reference.name):
        raise ImageError(f"{label} has no object named {reference.name!r}", hint=hint)
    raise ImageError(
        f"{reference.name!r} in {label} is of type {type(found).__name__} (expected klock.Image)",
        hint=f"call it: {getattr(found, '__name__', '')}(...)" if _makes_an_image(found) else hint,
    )


def _makes_an_image(found: Any) -> bool:
    """Whether it is a method of an image, or the class, or a function of `klock.images`, that nobody called."""
    from klock.image.builder import Image

    is_method = isinstance(getattr(found, "__self__", None), Image)
    return is_method or found is Image or getattr(found, "__module__", None) == "klock.images"


def _run(file: Path) -> ModuleType:
    # While the image file runs, Python writes no bytecode: without this it would compile klock's own each time.
    from klock.image import builder  # noqa: F401

    code = _compiled(file)
    module = ModuleType(file.stem)
    module.__file__ = str(file)
    with _isolated(file, module), contextlib.redirect_stdout(sys.stderr):
        try:
            exec(code, module.__dict__)
        except (Exception, SystemExit) as error:
            raise _failure(error, file) from error
    return module


def _compiled(file: Path) -> CodeType:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read {_shown(file)}: {error}") from error
    if b"\0" in content:  # compile() raises SyntaxError for it, ValueError in Python 3.11.2
        raise ImageError(f"{_shown(file)} is not Python: it has a NUL byte", hint="save it as text in UTF-8")
    try:
        return compile(content, str(file), "exec", dont_inherit=True)
    except SyntaxError as error:
        text = file.read_text("utf-8", "replace")
        lockfile = lockfile_of(ImageReference(file=file)).name
        if (conflict := conflict_in(text, _shown(file), lockfile=lockfile)) is not None:
            raise ImageError(conflict[0], hint=conflict[1]) from error
        line = f"\n    {error.text.strip()}" if error.text else ""
        place = f"{_shown(file)}:{error.lineno}" if error.lineno else _shown(file)
        hint = None if file.suffix == ".py" else _NO_PYTHON
        raise ImageError(mask(f"{place}: {type(error).__name__}: {error.msg}{line}"), hint=hint) from error


@contextlib.contextmanager
def _isolated(file: Path, module: ModuleType) -> Iterator[None]:
    path, modules, no_bytecode = list(sys.path), dict(sys.modules), sys.dont_write_bytecode
    folder = str(file.parent)
    sys.path.insert(0, folder)
    sys.modules[module.__name__] = module
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = no_bytecode
        sys.path[:] = path
        for name, loaded in list(sys.modules.items()):
            if modules.get(name) is not loaded and (loaded is module or _is_project_module(loaded, folder)):
                del sys.modules[name]
                if name in modules:
                    sys.modules[name] = modules[name]


def _is_project_module(module: ModuleType, folder: str) -> bool:
    """Whether a module comes from the image's folder and is not an installed package and not part of klock."""
    if module.__name__.partition(".")[0] == "klock":
        return False
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return any(p and p.startswith(folder + os.sep) and f"{os.sep}site-packages{os.sep}" not in p for p in places)


def _failure(error: BaseException, file: Path) -> ImageError:
    """The error with the user's own line: the innermost one that is in the image's folder."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename.startswith(str(file.parent) + os.sep) and not _is_klock(f.filename)]
    frame = own[-1] if own else None
    place = f"{_shown(Path(frame.filename))}:{frame.lineno}" if frame else _shown(file)
    if isinstance(error, KlockError):
        return ImageError(f"{place}: {error.message}", hint=error.hint)
    hint = _hint_for(error, (frame.line if frame else None) or "")
    if isinstance(error, KeyError) and frames and Path(frames[-1].filename).name in ("os.py", "<frozen os>"):
        hint = f"set the environment variable {error.args[0]}"
    said = "".join(traceback.format_exception_only(error)).strip()
    if hint is not None:
        said = _PYTHONS_HINT.sub("", said)
    if isinstance(error, FileNotFoundError) and error.errno is None:
        # klock's own, with the class that kubetorch's contract asks for.
        said = str(error)
    if isinstance(error, SystemExit):
        said = f"SystemExit: the file ends the program (status {error.code})"
    line = f"\n    {frame.line}" if frame and frame.line else ""
    return ImageError(mask(f"{place}: {said}{line}"), hint=hint)


def _hint_for(error: BaseException, line: str) -> str | None:
    """The name that was meant, of an attribute or of an argument; `line` is the user's."""
    import inspect

    from klock.image.builder import Image
    from klock.words import did_you_mean

    if isinstance(error, AttributeError) and error.obj is not None:
        names = [name for name in dir(error.obj) if not name.startswith("_")]
        if not isinstance(error.obj, Image):
            return did_you_mean(error.name or "", names)
        name = (error.name or "").lower()
        return did_you_mean(_ELSEWHERE.get(name, name), names) or "docs/image.md lists what an image has"
    if isinstance(error, TypeError) and (match := _WITHOUT_IMAGE.match(str(error))) and f"Image.{match[1]}(" in line:
        return f"call it on an image, not on the class: Image().{match[1]}(...)"
    if isinstance(error, NameError) and (error.name in ("Image", "images", "kt", "klock")):
        return "begin the file with `import klock as kt`, and write kt.Image or kt.images"
    if isinstance(error, ModuleNotFoundError):
        return "the file runs with klock's own Python, outside the environment: import only what is installed there"
    match = _UNEXPECTED.search(str(error)) if isinstance(error, TypeError) else None
    if match is None or not callable(method := getattr(Image, match["method"], None)):
        return None
    names = [name for name in inspect.signature(method).parameters if name not in ("self", "cls")]
    return did_you_mean(match["name"], names) or f"{match['method']} takes {', '.join(names)}"


def _is_klock(file: str) -> bool:
    return file.startswith(str(Path(__file__).parents[1]) + os.sep)


def _shown(file: Path) -> str:
    """A path as a person would type it from here."""
    relative = os.path.relpath(file)
    return str(file) if relative.startswith(f"..{os.sep}..{os.sep}") else relative
