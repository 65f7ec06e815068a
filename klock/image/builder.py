"""`Image`: the builder people write in `kimage.py`.

Every method returns the same object, so calls can be chained or not. What is collected is a list of typed steps, in
order; nothing is fetched, read or run until the image is locked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from klock.errors import ImageError
from klock.image import arguments
from klock.image.begins import begins
from klock.image.call_site import call_site
from klock.image.local_packages import locate_package
from klock.image.steps import (
    AddPython,
    AptInstall,
    Base,
    CondaInstall,
    Configure,
    CopyFiles,
    FromContext,
    ImageStage,
    PipInstall,
    RunBash,
    SetEnvVars,
    Step,
    SyncPackage,
)
from klock.image.words import ESCAPE, ContainerWords
from klock.values import replace
from klock.words import counted

if TYPE_CHECKING:
    from klock.image.dockerfile.part import DockerfilePart, Triggers

__all__ = ["Image"]

S = TypeVar("S", PipInstall, AptInstall, RunBash)


class Image(ContainerWords):
    """An environment as its user wants it: a base, and steps on top of it. What a Dockerfile calls WORKDIR, USER, LABEL
    and so on are methods too: see `ContainerWords`.

    `python_path` is the Python in the environment that packages are installed for; `install_cmd` the installer the user
    prefers (the bytes installed are the locked ones either way). `docker_secret` names the Kubernetes secret a cluster
    pulls the base with: it is not part of what is locked.

    A step with `force=True` runs at every `klock sync`; a result other than the locked one fails the sync. A wrong
    argument raises ImageError (a ValueError) at the call. docs/image.md has the whole contract, with examples.
    """

    def __init__(
        self,
        name: str | None = None,
        image_id: str | None = None,
        python_path: str | None = None,
        install_cmd: str | None = None,
    ) -> None:
        self.name = arguments.optional_text("Image", "name", name)
        self.python_path = arguments.optional_text("Image", "python_path", python_path)
        self.install_cmd = arguments.optional_text("Image", "install_cmd", install_cmd)
        self.docker_secret: str | None = None
        self.context: str | None = None
        self.build_args: dict[str, str] = {}
        self.platform: str | None = None
        self.stages: tuple[ImageStage, ...] = ()
        self._dockerfile: DockerfilePart | None = None
        self._triggers: Triggers = {}
        self._start_texts: tuple[str | None, str | None] = (None, None)
        self._base: Base | None = None if image_id is None else arguments.base("Image", image_id, call_site())
        self._steps: list[Step] = []

    @classmethod
    def _on(cls, base: Base, *, name: str | None) -> Image:
        image = cls(name=name)
        image._base = base
        return image

    @classmethod
    def of_stage(cls, stage: ImageStage) -> Image:
        """A stage as an image of its own."""
        image = cls._on(stage.base, name=None)
        image._steps.extend(stage.steps)
        return image

    def __repr__(self) -> str:
        steps = counted(len(self._steps), "step")
        return f"Image(name={self.name!r}, image_id={self.image_id!r}, {steps})"

    # -- what it says so far

    @property
    def base(self) -> Base | None:
        """What the steps build on; None as long as nothing has named it, which `klock lock` refuses."""
        return self._base

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps so far, in the order of the calls, which is the order they run in."""
        return tuple(self._steps)

    @property
    def image_id(self) -> str | None:
        """The base's reference as written; None without a base, and for a base made from the Debian archive."""
        from klock.image.contents import base_text

        return None if self._base is None else base_text(self._base)

    @image_id.setter
    def image_id(self, image_id: str | None) -> None:
        self._base = None if image_id is None else arguments.base("image_id", image_id, call_site())

    @property
    def contents(self) -> str:
        """The image as Dockerfile text, `""` for an empty one."""
        # Most commands show nobody the image.
        from klock.image.contents import contents

        return contents(self._base, self._steps, python_path=self.python_path, install_cmd=self.install_cmd)

    @property
    def dockerfile_command(self) -> str | None:
        """What ENTRYPOINT and CMD together run, as shell text."""
        return " ".join(filter(None, self.start_texts)) or None

    @property
    def start_texts(self) -> tuple[str | None, str | None]:
        """ENTRYPOINT and CMD, as shell text."""
        from klock.image.contents import shell_text

        entrypoint, command = self._start_texts
        for step in self._steps:
            if isinstance(step, Configure):
                if step.entrypoint is not None:
                    entrypoint = shell_text(step, "entrypoint")
                if step.command is not None:
                    command = shell_text(step, "command")
        return entrypoint, command

    # -- what it begins with

    def from_docker(self, image_id: str) -> Image:
        """Takes an existing image as the base: `python:3.12-slim`, `registry.io/x@sha256:...`.

        `oci:PATH[:TAG]` is an OCI image-layout folder, its path relative to the image file's folder.
        """
        if self._base is not None:
            raise ImageError(
                "Setting both a machine image and docker image is not yet supported.",
                hint="start a second image: klock.Image().from_docker(...)",
            )
        self._base = arguments.base("from_docker", image_id, call_site())
        return self

    @begins
    def from_dockerfile(
        self,
        dockerfile_path: str | os.PathLike[str],
        name: str | None = None,
        *,
        context: str | os.PathLike[str] | None = None,
        stage: str | None = None,
        build_args: Mapping[str, Any] | None = None,
    ) -> Image:
        """Reads a Dockerfile, all of its reference, with docker's meaning; docs/dockerfile.md has the few differences.

        COPY's sources are in the folder `context`, by default the Dockerfile's own. `stage` is the stage to make, by
        default the last. `build_args` are the values of its ARGs. The class has this method, and an image without a
        base and steps.
        Raises FileNotFoundError, and ImageError (a ValueError) with the line for what cannot be read or locked.
        """
        from klock.image.dockerfile.part import Reading, read_part

        self._refuse_if_begun("from_dockerfile")
        folder = call_site().folder
        reading = Reading(
            path=folder / Path(arguments.text("from_dockerfile", "dockerfile_path", dockerfile_path)).expanduser(),
            context=None if context is None else folder / Path(context).expanduser(),
            stage=stage,
            build_args=dict(arguments.variables("from_dockerfile", build_args or {}, name="build_args")),
        )
        self.name = arguments.optional_text("from_dockerfile", "name", name) or self.name
        self._begin_with(read_part(reading))
        return self

    @begins
    def from_kubetorch(self, image: object) -> Image:
        """Takes over a `kubetorch.Image`, its steps and attributes; later changes of either have no part in the other.

        Raises ImageError (a ValueError) for another object, and for a step that klock cannot make.
        """
        from klock.image.kubetorch import read_kubetorch

        self._refuse_if_begun("from_kubetorch")
        read = read_kubetorch(image)
        for name in ("name", "python_path", "install_cmd"):
            setattr(self, name, getattr(read, name) or getattr(self, name))
        self._base = None if read.image_id is None else arguments.base("from_kubetorch", read.image_id, read.location)
        self._steps.extend(read.steps)
        self.docker_secret, self._start_texts = read.docker_secret, (read.entrypoint, read.cmd)
        return self

    def _refuse_if_begun(self, method: str) -> None:
        if self._base is not None or self._steps:
            what = "a base" if self._base is not None else "steps"
            raise ImageError(
                f"{method} begins an image, and this one has {what} already",
                hint=f"call it first: klock.Image.{method}(...), then the other methods",
            )

    # -- what is installed

    def pip_install(
        self,
        reqs: str | Iterable[str],
        force: bool = False,
        *,
        leave_out: str | Iterable[str] = (),
        keep_layer: bool = False,
    ) -> Image:
        """Installs Python packages: requirements (PEP 508), paths in the environment, `-r FILE`, with pip's options.

        Options hold for the requirements of their own entry: `"--index-url https://my.host/simple torch"`. Nothing is
        shell text. An empty list adds no step. What the base has already and fits is kept, unless `force`.
        `leave_out` and `keep_layer`: see `run_bash`.
        """
        step = PipInstall(
            requirements=arguments.requirements("pip_install", reqs),
            force=arguments.flag("pip_install", "force", force),
            leave_out=arguments.path_patterns("pip_install", "leave_out", leave_out),
            keep_layer=arguments.flag("pip_install", "keep_layer", keep_layer),
            location=call_site(),
        )
        return self._add(_checked("pip_install", step), when=step.requirements)

    def pip_install_from_pyproject(
        self,
        path: str | os.PathLike[str] = "pyproject.toml",
        *,
        extras: str | Iterable[str] = (),
        groups: str | Iterable[str] = (),
        force: bool = False,
    ) -> Image:
        """Installs the dependencies of a project, with those of its `extras` and `groups` (PEP 735); not the project.

        `path` is from the image file's folder. It is `pip_install("-r pyproject.toml --extra E --group G")`.
        """
        chosen = arguments.parts("pip_install_from_pyproject", path, extras=extras, groups=groups)
        return self.pip_install(chosen, force=force)

    def uv_sync(
        self,
        folder: str | os.PathLike[str] = ".",
        *,
        extras: str | Iterable[str] = (),
        groups: str | Iterable[str] = (),
        no_dev: bool = False,
        package: str | None = None,
        force: bool = False,
    ) -> Image:
        """Installs what `uv sync` would in the project in `folder`: the versions and hashes of its uv.lock, with the
        groups that uv takes by default, without `dev` if `no_dev`. Members of the workspace, the project among them,
        are not installed: copy them with `rsync`. `package` names the member that is meant.
        """
        file = Path(arguments.text("uv_sync", "folder", folder)) / "uv.lock"
        chosen = arguments.parts("uv_sync", file, extras=extras, groups=groups, no_dev=no_dev, package=package)
        return self.pip_install(chosen, force=force)

    def apt_install(
        self,
        packages: str | Iterable[str],
        force: bool = False,
        *,
        leave_out: str | Iterable[str] = (),
        keep_layer: bool = False,
    ) -> Image:
        """Installs Debian packages, each `name` or `name=version`, each .deb locked by hash; no recommended ones.

        The base must have apt. An empty list adds no step. `leave_out` and `keep_layer`: see `run_bash`.
        """
        step = AptInstall(
            packages=arguments.debian_packages("apt_install", packages),
            force=arguments.flag("apt_install", "force", force),
            leave_out=arguments.path_patterns("apt_install", "leave_out", leave_out),
            keep_layer=arguments.flag("apt_install", "keep_layer", keep_layer),
            location=call_site(),
        )
        return self._add(_checked("apt_install", step), when=step.packages)

    def conda_install(
        self,
        packages: str | Iterable[str] = (),
        *,
        spec_file: str | os.PathLike[str] | None = None,
        channels: str | Iterable[str] = (),
        prefix: str = "/opt/conda",
    ) -> Image:
        """Installs conda packages into an environment at `prefix`, first in PATH; the base needs no conda.

        Each is a match specification, as conda has it: `"numpy>=1.26"`, `"pytorch::pytorch"`. `channels` are names and
        URLs, by default `conda-forge`, the first one first. `spec_file` is an environment.yml, from the image file's
        folder; what it has for pip is installed by `pip_install` afterwards. Needs klock's extra `conda`.
        Raises ImageError (a ValueError).
        """
        return self._conda("conda_install", packages, spec_file, channels, prefix)

    def micromamba_install(
        self,
        packages: str | Iterable[str] = (),
        *,
        spec_file: str | os.PathLike[str] | None = None,
        channels: str | Iterable[str] = (),
        prefix: str = "/opt/conda",
    ) -> Image:
        """The same as `conda_install`, under the name that Modal has."""
        return self._conda("micromamba_install", packages, spec_file, channels, prefix)

    def add_python(self, version: str) -> Image:
        """Adds a Python to a base without one, at /opt/python, first in PATH: `"3.12"`, or `"3.12.7"` for just that.

        It is a build of python-build-standalone, as uv installs it, locked by URL and hash.
        """
        if any(isinstance(step, AddPython) for step in self._steps):
            raise ImageError("add_python: the image has a Python at /opt/python already", hint="call it once")
        step = AddPython(version=arguments.python_version("add_python", "version", version), location=call_site())
        return self._add(step)

    # -- variables and commands

    def set_env_vars(self, env_vars: Mapping[str, Any]) -> Image:
        r"""Sets variables in order; `$NAME` and `${NAME}` take the value in the container, `\$` is a plain `$`.

        What is not defined there at that point stays as written. Values become text as `str` has it (None is `None`).
        """
        variables = arguments.variables("set_env_vars", env_vars)
        return self._add(SetEnvVars(variables=variables, location=call_site()), when=variables)

    def run_bash(
        self,
        command: str,
        force: bool = False,
        *,
        leave_out: str | Iterable[str] = (),
        keep_layer: bool = False,
        private_urls: str | Iterable[str] = (),
        wait_for: int | str | None = None,
    ) -> Image:
        """Runs a command, of one line or many, in a shell of its own: bash, or sh where the base has no bash.

        Its exit status is that of its last command; another one than 0 fails the step. Everything it fetches is locked:
        at `klock sync` it gets the same answers, and nothing else. A command that ends in `&` is a service as a whole:
        it makes no layer, and `klock run` starts it before its command and ends it afterwards.

        For a command that makes something else each time: `leave_out` names paths (`/etc/ssh/ssh_host_*`) that are no
        part of what it makes; with `keep_layer` what it made when it was locked is the artifact, and it never runs
        again. `private_urls` names URLs (`https://auth.example.com/token*`) whose answers are never stored.

        `wait_for` says when a service is ready: a port that it listens on, or a command that succeeds then. `klock run`
        starts its command only after that.
        """
        step = RunBash(
            command=arguments.command("run_bash", command),
            force=arguments.flag("run_bash", "force", force),
            leave_out=arguments.path_patterns("run_bash", "leave_out", leave_out),
            keep_layer=arguments.flag("run_bash", "keep_layer", keep_layer),
            private_urls=arguments.url_patterns("run_bash", "private_urls", private_urls),
            wait_for=arguments.wait("run_bash", wait_for),
            location=call_site(),
        )
        if step.wait_for is not None and not step.is_service:
            raise ImageError(
                "run_bash: wait_for is for services, and the command does not end in '&'",
                hint="end the command in '&', or remove wait_for",
            )
        if step.is_service and (step.leave_out or step.keep_layer or step.private_urls):
            raise ImageError(
                "run_bash: a command that ends in '&' is a service: it makes no layer, and klock records nothing of it",
                hint="remove the '&', or remove leave_out, keep_layer and private_urls",
            )
        return self._add(_checked("run_bash", step))

    def run_function(
        self,
        function: Callable[..., object],
        args: Iterable[object] = (),
        kwargs: Mapping[str, object] | None = None,
        *,
        python: str | None = None,
        leave_out: str | Iterable[str] = (),
        keep_layer: bool = False,
        private_urls: str | Iterable[str] = (),
    ) -> Image:
        """Calls a Python function in the environment when the image is made, as to download a model.

        It is locked by its source and its arguments, and by the functions and constants of its module that it uses: a
        change of them runs it again. Modules are imported in the environment, so the image must have them. What it
        returns is not used. `python` is the interpreter, by default the first python3 of PATH. The rest is as in
        `run_bash`. Raises ImageError (a ValueError) for a function that uses what no text can stand for.
        """
        from klock.image.functions import command_of

        interpreter = arguments.text("run_function", "python", python or self.python_path or "python3")
        step = RunBash(
            command=arguments.command(
                "run_function", command_of(function, args, {} if kwargs is None else kwargs, python=interpreter)
            ),
            leave_out=arguments.path_patterns("run_function", "leave_out", leave_out),
            keep_layer=arguments.flag("run_function", "keep_layer", keep_layer),
            private_urls=arguments.url_patterns("run_function", "private_urls", private_urls),
            location=call_site(),
        )
        return self._add(step)

    # -- local files, and those of other images

    def rsync(
        self,
        source: str | os.PathLike[str],
        dest: str | None = None,
        contents: bool = False,
        filter_options: str | None = None,
        force: bool = False,
    ) -> Image:
        """Places local files in the environment, without those that `.gitignore`, `.ktignore` and `.klockignore` name.

        `source` is relative to the image file's folder. A folder arrives as `dest/<its name>`, or with `contents` its
        files go right into `dest`. Without `dest` it goes to the working directory, where a relative `dest` begins too.
        `filter_options` are rsync's: `"--include='important.log' --exclude='*.log'"`.
        """
        step = _files("rsync", source, dest=dest, contents=contents, filter_options=filter_options, force=force)
        return self._add(step)

    def copy(
        self,
        source: str | os.PathLike[str],
        dest: str | None = None,
        contents: bool = False,
        filter_options: str | None = None,
        force: bool = False,
        *,
        owner: str | None = None,
        mode: str | None = None,
        from_image: str | None = None,
    ) -> Image:
        """The same as `rsync`, under the name that Dockerfiles use.

        `owner` is whose the files are, `user` or `user:group` of the environment, by default root's; `mode` as for
        chmod: `"755"`, `"u=rwX,go=rX"`. With `from_image` the files are those of another image, locked by its digest:
        `source` is a path in it, of a folder the contents are copied, and owners and modes stay.
        """
        chmod = None if mode is None else arguments.mode("copy", "mode", mode)
        whose = arguments.optional_text("copy", "owner", owner)
        if from_image is None:
            files = _files("copy", source, dest=dest, contents=contents, filter_options=filter_options, force=force)
            return self._add(replace(files, owner=whose, mode=chmod))
        if dest is None or contents or filter_options or force:
            raise ImageError(
                "copy: from_image goes with dest, owner and mode, and with nothing else",
                hint='write copy("/usr/bin/uv", "/usr/local/bin/", from_image="ghcr.io/astral-sh/uv:0.9")',
            )
        where = call_site()
        step = FromContext(
            escape=ESCAPE,
            context="",
            sources=(arguments.text("copy", "source", source),),
            dest=arguments.text("copy", "dest", dest),
            stage=from_image,
            owner=whose,
            mode=chmod,
            location=where,
        )
        if from_image not in {stage.name for stage in self.stages}:
            base = arguments.base("copy", from_image, where, name="from_image", keeps_settings=True)
            self.stages = (*self.stages, ImageStage(name=from_image, base=base))
        return self._add(step)

    def sync_package(self, package: str | os.PathLike[str], force: bool = False) -> Image:
        """Places a local Python package in the working directory and makes it importable.

        `package` is the name of an editably installed one, or a path (with a `/`) from the project's root. What the
        package depends on is not installed: name it in `pip_install`.
        Raises ImageError (a ValueError) when there is none.
        """
        where = call_site()
        written = arguments.text("sync_package", "package", package)
        forced = arguments.flag("sync_package", "force", force)
        path = locate_package(written, folder=where.folder)
        return self._add(SyncPackage(package=written, path=str(path), force=forced, location=where))

    # -- how steps are collected

    def _add(self, step: Step, *, when: object = True) -> Image:
        if when:
            self._steps.append(step)
        return self

    def _conda(self, method: str, packages: object, spec_file: object, channels: object, prefix: object) -> Image:
        where = call_site()
        specs = arguments.texts(method, "packages", packages)
        wanted = arguments.texts(method, "channels", channels)
        variables: dict[str, str] = {}
        pip: tuple[str, ...] = ()
        if spec_file is not None:
            from klock.image.conda import read_spec_file

            path = where.folder / Path(arguments.text(method, "spec_file", spec_file)).expanduser()
            file = read_spec_file(path, method, folder=where.folder)
            specs, wanted, pip = (*file.specs, *specs), wanted or file.channels, file.pip
            # conda takes a `$` as it is.
            variables = {name: value.replace("$", r"\$") for name, value in file.variables.items()}
        if not specs:
            raise ImageError(f"{method}: no packages are named", hint='write for example ["python=3.12", "numpy"]')
        step = CondaInstall(
            specs=specs,
            channels=wanted or ("conda-forge",),
            prefix=arguments.absolute_folder(method, "prefix", prefix),
            location=where,
        )
        self._add(step)
        if variables:
            self.set_env_vars(variables)
        return self.pip_install(pip) if pip else self

    # -- a Dockerfile's part of it

    @classmethod
    def _of_dockerfile(cls, part: DockerfilePart) -> Image:
        image = cls()
        image._begin_with(part)
        return image

    def _with_triggers(self, triggers: Triggers) -> Image:
        """The same image, with the triggers (ONBUILD) of its bases by their names: klock reads the Dockerfile that it
        begins with again. Raises ImageError."""
        image = self._twin()
        image._triggers = dict(triggers)
        if self._dockerfile is not None and image._triggers != self._triggers:
            image._begin_with(self._dockerfile.with_triggers(triggers))
        return image

    def _for_platform(self, platform: str) -> Image:
        """The same image for a platform: klock reads its Dockerfile again if a FROM is for another platform alone.
        Raises ImageError if the image cannot be made there."""
        if self._dockerfile is None or self.platform in (None, platform):
            return self
        image = self._twin()
        image._begin_with(self._dockerfile.on_platform(platform))
        return image

    def _twin(self) -> Image:
        """A copy. Later calls on one of the two do not change the other."""
        image = Image()
        image.__dict__.update(self.__dict__)
        image._steps = list(self._steps)
        return image

    def _begin_with(self, part: DockerfilePart) -> None:
        """Replaces what an earlier reading of the Dockerfile gave, and keeps what was added after it."""
        before = self._dockerfile
        added = self._steps[len(before.steps) :] if before else self._steps
        stages = self.stages[len(before.stages) :] if before else self.stages
        self._base, self._steps, self.stages = part.base, [*part.steps, *added], (*part.stages, *stages)
        self.platform, self.context, self.build_args = part.platform, part.context, dict(part.build_args)
        self._triggers, self._dockerfile = part.reading.triggers, part


def _checked(method: str, step: S) -> S:
    if step.force and step.keep_layer:
        raise ImageError(
            f"{method}: force=True runs the step at every sync, keep_layer=True at none", hint="remove one of them"
        )
    return step


def _files(
    method: str, source: object, *, dest: object, contents: object, filter_options: object, force: object
) -> CopyFiles:
    """What `rsync` and `copy` have in common."""
    where = call_site()
    return CopyFiles(
        source=arguments.text(method, "source", source).rstrip("/") or "/",
        root=str(where.folder),
        dest=arguments.destination(method, dest),
        contents=arguments.flag(method, "contents", contents),
        filter_options=arguments.optional_text(method, "filter_options", filter_options or None),
        force=arguments.flag(method, "force", force),
        location=where,
    )
