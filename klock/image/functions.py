"""A Python function as a program: its source, and what it uses of the module it stands in. For `run_function`.

Only what stands in the text is run, so only that can change what it makes: modules are imported again in the
environment, other functions of the same file are written along, and constants are written as they are now.
"""

from __future__ import annotations

import ast
import builtins
import dis
import inspect
import math
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final, TypeAlias

from klock.errors import ImageError

__all__ = ["command_of", "program_of"]

_Definition: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef"
_PLAIN: Final = (str, bytes, int, float, bool, type(None))
_BEGIN: Final = """\
from __future__ import annotations
if __name__ == "__main__":
    __import__("sys").path[0] = ""  # the working directory, and not where this file is"""
_OF_THIS_MACHINE: Final = ("__file__", "__cached__", "__path__", "__spec__", "__loader__", "__builtins__")
"""What modules have of where they lie."""


def command_of(
    function: Callable[..., object], arguments: Iterable[object], named: Mapping[str, object], *, python: str
) -> str:
    """A shell command that has the interpreter `python` call `function`. Raises what `program_of` raises."""
    if isinstance(arguments, str | bytes) or not isinstance(arguments, Iterable):
        raise ImageError(
            f"run_function: args is {arguments!r} (expected a list)", hint='write args=["one", 2] for f("one", 2)'
        )
    if not isinstance(named, Mapping) or not all(isinstance(name, str) for name in named):
        raise ImageError(
            f"run_function: kwargs is {named!r} (expected a dictionary of names)",
            hint='write kwargs={"a": 1} for f(a=1)',
        )
    program = program_of(function, tuple(arguments), named)
    end = f"end of {function.__name__}"
    while end in program.splitlines():
        end += "."
    # A file, which processes that it starts can import, and whose lines a traceback shows.
    file = shlex.quote(f"/tmp/klock-{function.__name__}.py")
    return f"cat > {file} <<'{end}'\n{program}{end}\n{shlex.quote(python)} {file} && rm -f {file}\n"


def program_of(function: Callable[..., object], arguments: Sequence[object], named: Mapping[str, object]) -> str:
    """The text of a program that calls `function`, of Python 3.8 or newer.

    Raises ImageError for what no text can stand for, such as an open file, with its name.
    """
    if not isinstance(function, FunctionType) or function.__name__ == "<lambda>":
        what = "is decorated" if hasattr(function, "__wrapped__") else "is not a function of a file"
        raise ImageError(
            f"run_function: {_shown(function)} {what}", hint="write it with def at the top level of a module"
        )
    program = _Program(function)
    program.refuse_call(arguments, named)
    program.take(function)
    values = [program.literal(value, f"argument {number}") for number, value in enumerate(arguments, 1)]
    values += [f"{name}={program.literal(value, f'argument {name}')}" for name, value in named.items()]
    call = f"{function.__name__}({', '.join(values)})"
    parts = [_BEGIN, *sorted(program.imports), *program.constants.values()]
    return "\n".join([*parts, "", *program.functions.values(), 'if __name__ == "__main__":', f"    {call}", ""])


class _Program:
    """`functions` are the sources by name, those that others use first."""

    def __init__(self, main: FunctionType) -> None:
        self._main = main
        self._statements = _import_statements(main)
        self.imports: set[str] = set()
        self.constants: dict[str, str] = {}
        self.functions: dict[str, str] = {}

    def take(self, function: FunctionType) -> None:
        if function.__code__.co_freevars:
            names = ", ".join(function.__code__.co_freevars)
            raise self._error(f"{function.__name__} uses {names} of the function around it", "pass it as an argument")
        definition, source = self._definition(function)
        self.functions[function.__name__] = ""  # It may call itself.
        written = {node.id for node in ast.walk(definition) if isinstance(node, ast.Name)}
        # Others than those that are written there are of whoever changed the code, as test runners do.
        used = {*_globals_of(function.__code__), *_names_in_defaults(definition)} & written
        for name in sorted(used):
            if name in _OF_THIS_MACHINE:
                raise self._error(
                    f"{function.__name__} uses {name}, which it has on this machine alone",
                    "write the path that it has in the environment",
                )
            if name == "__name__":
                continue  # the program has its own, by which it knows that it is one
            if name in function.__globals__:
                self._take_global(name, function.__globals__[name])
            elif not hasattr(builtins, name) and name not in _names_set_by(function.__code__):
                raise self._error(f"{function.__name__} uses {name}, which is not defined", "import it, or define it")
        del self.functions[function.__name__]
        self.functions[function.__name__] = source + "\n"

    def refuse_call(self, arguments: Sequence[object], named: Mapping[str, object]) -> None:
        """Raises ImageError for a call that does nothing, or not even that."""
        name = self._main.__name__
        for is_such, kind, call in (
            (inspect.isgeneratorfunction, "a generator", f"for each in {name}(): ..."),
            (inspect.iscoroutinefunction, "asynchronous", f"asyncio.run({name}())"),
            (inspect.isasyncgenfunction, "an asynchronous generator", f"async for each in {name}(): ..."),
        ):
            if is_such(self._main):
                raise self._error(f"{name} is {kind}: a call of it does nothing", f"write a function that has {call}")
        try:
            inspect.signature(self._main).bind(*arguments, **named)
        except TypeError as error:
            raise self._error(f"{error}", "give args and kwargs as the function takes them") from None

    def literal(self, value: Any, what: str) -> str:
        """Raises ImageError for what no literal gives back."""
        try:
            return self._literal(value, what)
        except ImageError:
            raise
        except (RecursionError, ValueError):
            raise self._error(f"{what} holds itself, or is too large", "write it into a file, and copy that") from None

    def _literal(self, value: Any, what: str) -> str:
        if type(value) is float and not math.isfinite(value):
            return f"float({str(value)!r})"
        if type(value) in _PLAIN:
            return repr(value)
        if type(value) in (list, tuple):
            items = [self._literal(item, what) for item in value]
            return f"[{', '.join(items)}]" if type(value) is list else f"({''.join(f'{item}, ' for item in items)})"
        if type(value) is dict:
            pairs = (f"{self._literal(key, what)}: {self._literal(item, what)}" for key, item in value.items())
            return "{" + ", ".join(pairs) + "}"
        raise self._error(
            f"{what} is {'a class' if isinstance(value, type) else _shown(value)}",
            "use text, numbers, None, lists, tuples and dictionaries of these; make all else inside of the function",
        )

    def _take_global(self, name: str, value: Any) -> None:
        if name in self.functions or name in self.constants:
            return
        module = getattr(value, "__module__", None)
        if statements := self._statements.get(name):
            self.imports |= statements
            return
        if isinstance(value, ModuleType):
            self.imports.add(f"import {value.__name__}" + ("" if value.__name__ == name else f" as {name}"))
        elif isinstance(value, FunctionType) and module == self._main.__module__:
            if value.__name__ != name:
                raise self._error(f"{name} is another name of {value.__name__}", f"call it {value.__name__}")
            self.take(value)
        elif module != self._main.__module__ and _is_importable(module, value):
            written = value.__qualname__
            self.imports.add(f"from {module} import {written}" + ("" if written == name else f" as {name}"))
        else:
            self.constants[name] = f"{name} = {self.literal(value, name)}"

    def _definition(self, function: FunctionType) -> tuple[_Definition, str]:
        try:
            source = inspect.getsource(function)
            # Without its indentation, text of several lines in it would be another.
            source = f"if True:\n{source}" if source[:1].isspace() else source
            definition = ast.parse(source).body[0]
        except (OSError, TypeError, SyntaxError) as error:
            raise self._error(f"the source of {function.__name__} is not there", "define it in a file") from error
        if isinstance(definition, ast.If):
            definition = definition.body[0]
        if not isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef) or definition.decorator_list:
            raise self._error(
                f"{function.__name__} is decorated, or not a plain function", "write a plain function: def NAME(...):"
            )
        return definition, source

    def _error(self, what: str, hint: str) -> ImageError:
        return ImageError(f"run_function {self._main.__name__}: {what}", hint=hint)


def _import_statements(function: FunctionType) -> dict[str, set[str]]:
    """By the name that they bind, the imports at the top level of a function's file. Of several, such as
    `import xml.dom` and `import xml.sax`, each counts."""
    try:
        lines, _ = inspect.findsource(function)
        nodes = ast.parse("".join(lines)).body
    except (OSError, TypeError, SyntaxError):
        return {}
    found: dict[str, set[str]] = {}
    for node in nodes:
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and not node.level):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                one = type(node)(**{**dict(ast.iter_fields(node)), "names": [alias]})
                found.setdefault(bound, set()).add(ast.unparse(one))
    return found


def _globals_of(code: CodeType) -> Iterator[str]:
    """The names that a function, and what is defined in it, looks up in its module."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals_of(constant)


def _names_set_by(code: CodeType) -> set[str]:
    """The names of its module that a function, and what is defined in it, sets: those of `global`."""
    found = {each.argval for each in dis.get_instructions(code) if each.opname == "STORE_GLOBAL"}
    return found.union(*(_names_set_by(each) for each in code.co_consts if isinstance(each, CodeType)))


def _names_in_defaults(definition: _Definition) -> Iterator[str]:
    defaults = [*definition.args.defaults, *filter(None, definition.args.kw_defaults)]
    for default in defaults:
        yield from (node.id for node in ast.walk(default) if isinstance(node, ast.Name))


def _is_importable(module: str | None, value: object) -> bool:
    name = getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return False
    return module != "__main__" and getattr(sys.modules.get(module), name, None) is value


def _shown(value: Any) -> str:
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else f"of the type {type(value).__name__}"
