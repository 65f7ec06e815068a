"""A stage's instructions as steps of an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path

from e2b_dockerfile_utils import parse_heredoc

from klock.image import arguments
from klock.image.dockerfile.arguments import PLATFORM, argument_of
from klock.image.dockerfile.comments import words_of
from klock.image.dockerfile.leftovers import Later
from klock.image.dockerfile.mounts import mount_of
from klock.image.dockerfile.parsing import Instruction, triggered
from klock.image.dockerfile.settings import SETTINGS, configure, pairs_of
from klock.image.dockerfile.stages import Stage, find_stage
from klock.image.steps import (
    Argument,
    Configure,
    CopyText,
    DeclareArguments,
    FromContext,
    Location,
    RunCommand,
    SetEnvVars,
    SetWorkingDir,
    Step,
)
from klock.values import dataclass

__all__ = ["ReadStage", "read_stages"]


@dataclass(slots=True, kw_only=True)
class ReadStage:
    """`base` is FROM's reference and where it stands. `stages` names the stages, and the images, that its steps take
    files from, and where the first step that does stands."""

    name: str
    base: str
    location: Location
    steps: list[Step] = field(default_factory=list)
    stages: dict[str, Location] = field(default_factory=dict)
    has_command: bool = False


def read_stages(
    target: Stage,
    stages: Sequence[Stage],
    *,
    context: Path,
    given: Mapping[str, str],
    triggers: Mapping[str, Sequence[str]],
) -> list[ReadStage]:
    """The stages that `target` needs, in the file's order, itself the last. `triggers` are the instructions that base
    images have for those who build on them, by the bases' names. Raises ImageError."""
    reader = _Reader(stages, context=context, given=given, triggers=triggers)
    needed: dict[int, ReadStage] = {}
    images: dict[str, ReadStage] = {}
    waiting = [target]
    while waiting:
        stage = waiting.pop()
        if stage.number in needed:
            continue
        read = needed[stage.number] = reader.read(stage)
        for name, location in read.stages.items():
            if (found := find_stage(name, stages[: stage.number])) is not None:
                waiting.append(found)
            else:
                images[name] = ReadStage(name=name, base=name, location=location)
    last = needed.pop(target.number)
    return [*images.values(), *(needed[number] for number in sorted(needed)), last]


class _Reader:
    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        context: Path,
        given: Mapping[str, str],
        triggers: Mapping[str, Sequence[str]],
    ) -> None:
        self._stages = stages
        self._triggers = triggers
        self._context = str(context)
        self._given = given
        self._ignore_file = _ignore_file(stages[0].start.file, context)

    def read(self, stage: Stage) -> ReadStage:
        """A stage over another one begins with the steps of that. What its base has for it (ONBUILD) is done first,
        and is for nobody after it."""
        if stage.elsewhere:
            platform = stage.arguments["TARGETPLATFORM"]
            raise stage.start.error(
                f"FROM --platform={stage.elsewhere} is another platform than the image's, {platform}",
                hint="remove --platform; to lock several platforms, name them in targets of [tool.klock]",
            )
        if stage.parent is not None:
            read = self.read(stage.parent)
            read.name, read.has_command = stage.label, False
            read.steps = [step for step in read.steps if not (isinstance(step, Configure) and step.on_build)]
            texts: Sequence[str] = [each.rest for each in stage.parent.instructions if each.name == "ONBUILD"]
        else:
            read = ReadStage(name=stage.label, base=stage.base, location=stage.start.location)
            texts = self._triggers.get(stage.base, ())
        instructions = [*(triggered(text, stage.start) for text in texts), *stage.instructions]
        later = Later(stage, self._stages, instructions)
        for number, instruction in enumerate(instructions):
            kept = later.kept(number, read.steps) if instruction.name == "RUN" else ()
            read.steps += self._steps(instruction, stage, read, kept)
        return read

    def _steps(self, instruction: Instruction, stage: Stage, read: ReadStage, kept: tuple[str, ...]) -> Iterator[Step]:
        if instruction.options and instruction.name != "RUN":
            raise instruction.error(
                f"`# klock: {next(iter(instruction.options))}` is above {instruction.name}",
                hint="write it above the RUN that it is for",
            )
        match instruction.name:
            case "RUN":
                yield self._run(instruction, stage, read, kept)
            case "COPY" | "ADD":
                yield self._copy(instruction, stage, read)
            case "ENV":
                yield _env(instruction)
            case "ARG":
                found = tuple(self._argument(each, stage) for each in argument_of(instruction, self._given))
                yield DeclareArguments(arguments=found, escape=instruction.escape, location=instruction.location)
            case "WORKDIR":
                instruction.only_flags()
                if not instruction.rest:
                    raise instruction.error("WORKDIR names no folder", hint="write WORKDIR /app")
                yield SetWorkingDir(path=instruction.rest, escape=instruction.escape, location=instruction.location)
            case name if name in SETTINGS:
                step = configure(instruction, resets_command=not read.has_command)
                read.has_command = read.has_command or name == "CMD"
                yield step

    def _argument(self, argument: Argument, stage: Stage) -> Argument:
        """An ARG without a default takes the value from before the first FROM; a platform's is the target's."""
        if argument.given is None and argument.default is None and argument.name not in PLATFORM:
            return Argument(name=argument.name, given=stage.arguments.get(argument.name))
        return argument

    # -- RUN

    def _run(self, instruction: Instruction, stage: Stage, read: ReadStage, kept: tuple[str, ...]) -> RunCommand:
        flags = instruction.only_flags("mount", "network", "security", "device", several=("mount", "device"))
        if "device" in flags:
            raise instruction.error(
                f"a step sees no device (--device={flags['device'][0]}): what it makes would depend on the machine",
                hint="remove it, and use devices when the environment runs: klock run --gpus all",
            )
        network = flags.get("network", ["default"])[0]
        if network not in ("default", "host", "none"):
            raise instruction.error(f"--network={network} is not a network", hint="write none, default or host")
        if flags.get("security", ["sandbox"])[0] != "sandbox":
            raise instruction.error(
                "RUN --security=insecure needs more rights than a step has",
                hint="remove it, and do with klock run what needs these rights",
            )
        mounts = tuple(
            mount if mount.stage is None else replace(mount, stage=self._origin(mount.stage, instruction, stage, read))
            for mount in (mount_of(text, instruction) for text in flags.get("mount", ()))
        )
        if {"force", "keep-layer"} <= instruction.options.keys():
            raise instruction.error("force runs it at every sync, keep-layer at none", hint="remove one of them")
        words = instruction.words if instruction.is_json else ()
        command, is_script = ("", False) if instruction.is_json else _shell_text(instruction)
        if instruction.is_json and not words:
            raise instruction.error("RUN has an empty command", hint="write a command, or remove it")
        return RunCommand(
            escape=instruction.escape,
            context=self._context,
            ignore_file=self._ignore_file,
            command=command,
            words=words,
            is_script=is_script,
            mounts=mounts,
            leave_out=arguments.path_patterns("# klock", "leave-out", _listed("leave-out", instruction)),
            keep_layer="keep-layer" in instruction.options,
            private_urls=arguments.url_patterns("# klock", "private-urls", _listed("private-urls", instruction)),
            force="force" in instruction.options,
            keep=kept,
            without_network=network == "none",
            location=instruction.location,
        )

    # -- COPY and ADD

    def _copy(self, instruction: Instruction, stage: Stage, read: ReadStage) -> FromContext:
        is_add = instruction.name == "ADD"
        known = ("chown", "chmod", "link", "exclude")
        extra = ("keep-git-dir", "checksum", "unpack") if is_add else ("from", "parents")
        flags = instruction.only_flags(*known, *extra, several=("exclude",))
        # With or without --link the files are the same.
        _is_on("link", flags, instruction)
        *sources, dest = instruction.words or ("",)
        if not sources:
            raise instruction.error(
                f"{instruction.name} needs a source and a destination", hint="write the source, then the destination"
            )
        texts = {text.name: text for text in instruction.texts}
        files = [source for source in sources if not (texts and parse_heredoc(source))]
        origin = flags.get("from", [None])[0]
        if origin is not None:
            origin = self._origin(origin, instruction, stage, read)
        return FromContext(
            escape=instruction.escape,
            context=self._context,
            ignore_file=self._ignore_file,
            sources=tuple(files),
            texts=tuple(CopyText(name=t.name, content=t.content, expands=t.expands) for t in texts.values()),
            dest=dest,
            stage=origin,
            owner=flags.get("chown", [None])[0] or None,
            mode=flags.get("chmod", [None])[0] or None,
            exclude=tuple(flags.get("exclude", ())),
            parents=_is_on("parents", flags, instruction),
            unpacks=is_add,
            unpack=_is_on("unpack", flags, instruction) if "unpack" in flags else None,
            checksum=flags.get("checksum", [None])[0],
            keeps_git=_is_on("keep-git-dir", flags, instruction) if "keep-git-dir" in flags else None,
            location=instruction.location,
        )

    def _origin(self, name: str, instruction: Instruction, stage: Stage, read: ReadStage) -> str:
        """The stage, by its own name, or the image that files come from, which is noted. Raises ImageError."""
        if "$" in name:
            raise instruction.error(
                f"docker takes no variable in from={name}", hint=f"give it a name first: FROM {name} AS origin"
            )
        found = find_stage(name, self._stages[: stage.number])
        if found is None and (name.isdigit() or find_stage(name, self._stages) is not None):
            raise instruction.error(f"there is no earlier stage {name!r}", hint="name an earlier stage")
        label = name if found is None else found.label
        read.stages.setdefault(label, instruction.location)
        return label


def _env(instruction: Instruction) -> SetEnvVars:
    instruction.only_flags()
    if not instruction.words:
        raise instruction.error("ENV sets nothing", hint="write ENV NAME=value")
    return SetEnvVars(variables=pairs_of(instruction), escape=instruction.escape, location=instruction.location)


def _shell_text(instruction: Instruction) -> tuple[str, bool]:
    """The text for the shell, and whether it is a file that its first line says how to run.

    A heredoc that is the whole command is that text; one of a longer command stands below it, where its shell looks.
    """
    command = instruction.words[0] if instruction.words else ""
    if not instruction.texts:
        return command, False
    first = instruction.texts[0]
    if len(instruction.texts) == 1 and parse_heredoc(command):
        return first.content, first.content.startswith("#!")
    return "\n".join([command, *(f"{text.content}{text.name}" for text in instruction.texts)]), False


def _listed(name: str, instruction: Instruction) -> list[str]:
    """What a comment above the instruction lists. Raises ImageError."""
    try:
        return words_of(instruction.options.get(name, ""))
    except ValueError as error:
        raise instruction.error(f"`# klock: {name}`: {error}", hint="close the quote") from None


def _is_on(name: str, flags: Mapping[str, Sequence[str]], instruction: Instruction) -> bool:
    value = flags.get(name, ["false"])[0].lower()
    if value not in ("true", "false"):
        raise instruction.error(f"--{name}={value} is neither true nor false", hint=f"write --{name}")
    return value == "true"


def _ignore_file(file: Path, context: Path) -> str | None:
    """The Dockerfile's own `<name>.dockerignore` comes before the context's `.dockerignore`."""
    found = (path for path in (file.with_name(f"{file.name}.dockerignore"), context / ".dockerignore"))
    return next((str(path) for path in found if path.is_file()), None)
