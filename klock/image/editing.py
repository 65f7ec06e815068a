"""Edits the requirements in an image file: as text, so that all else of it stays as the user wrote it.

Only what is sure is edited: a list of plain strings that is given to `pip_install` in the one expression that the image
is made by. Python's own parser says where each string is, and is asked afterwards whether the new text is the old one
but for the change. A library that keeps a whole file's formatting (libcst) would parse it once more to the same end.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement

from klock.errors import KlockError, RequirementError
from klock.project_names import normalised_name
from klock.values import dataclass
from klock.words import did_you_mean

__all__ = ["add_requirement", "remove_requirement"]

_METHOD: Final = "pip_install"
_REST_OF_LINE: Final = re.compile(rb"[ \t]*(?P<comma>,?)[ \t]*(?:#[^\n]*?)?(?P<end>\r?\n)")


@dataclass(frozen=True, slots=True)
class _Listed:
    """A list that is given to `pip_install`: the call, and the strings in it."""

    call: ast.Call
    node: ast.List

    @property
    def elements(self) -> list[ast.Constant]:
        return [element for element in self.node.elts if isinstance(element, ast.Constant)]


def add_requirement(source: str, image: str, requirement: str) -> str:
    """The text with `requirement` at the end of the image's last list, or in place of one of the same project.

    Versions and extras of the replaced one stay if `requirement` names none. `image` is the variable's name. Raises
    RequirementError for what is not a requirement (PEP 508), and KlockError if klock cannot edit the text: its hint is
    the line to write.
    """
    name = _name_of(requirement)
    if name is None:
        place = "'NAME @ URL' for a file at a URL; write a local project into the image yourself"
        hint = place if "/" in requirement else "write a name, such as 'numpy>=1.24'"
        raise RequirementError(f"{requirement!r} is not a requirement", hint=hint)
    text = _Text(source)
    line = f".{_METHOD}([{json.dumps(requirement, ensure_ascii=False)}])"
    lists = list(_lists(text.tree, image, hint=f"write it into the image yourself, and lock: {line}"))
    if known := _named(lists, name):
        _, element = known[-1]
        requirement = _together(str(element.value), requirement)
        new = text.replaced(element, text.quoted(requirement, element))
        element.value = requirement
        return text.verified(new)
    if not lists:
        raise KlockError(
            f"{image} has no {_METHOD} with a list of names that could be added to",
            hint=f"write it into the image yourself, and lock: {line}",
        )
    new = text.appended(lists[-1], requirement)
    lists[-1].node.elts.append(ast.Constant(value=requirement))
    return text.verified(new)


def remove_requirement(source: str, image: str, project: str) -> str:
    """The text without the requirement of a project, and without a `pip_install` that installs nothing more.

    Raises KlockError as `add_requirement` does, and where the image does not ask for the project.
    """
    text, name = _Text(source), normalised_name(project)
    hint = f"`klock why {project}` says what asks for it: remove that from the image yourself, and lock"
    lists = list(_lists(text.tree, image, hint=hint))
    known = _named(lists, name)
    if not known:
        names = [found for each in lists for e in each.elements if (found := _name_of(str(e.value))) is not None]
        raise KlockError(
            f"no list of {_METHOD} in {image} asks for {project}", hint=did_you_mean(project, names) or hint
        )
    listed, element = known[-1]
    if len(known) > 1:
        raise KlockError(f"{image} asks for {project} more than once", hint=hint)
    if len(listed.elements) > 1:
        new = text.without_element(listed, element)
        listed.node.elts.remove(element)
        return text.verified(new)
    without = text.without_call(listed.call)
    if without is None:
        raise KlockError(f"{project} is the last package of a {_METHOD}, and a comment in it would be lost", hint=hint)
    _Remover(listed.call).visit(text.tree)
    return text.verified(without)


def _lists(tree: ast.Module, image: str, *, hint: str) -> Iterator[_Listed]:
    """In the order in which they are called."""
    values = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and image in _targets(node) and node.value is not None
    ]
    if len(values) != 1:
        raise KlockError(f"{image} is not one expression, and klock edits no other", hint=hint)
    chain: list[ast.Call] = []
    value = values[0]
    while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        chain.append(value)
        value = value.func.value
    for call in reversed(chain):
        assert isinstance(call.func, ast.Attribute)
        given = call.args[0] if call.args else None
        if call.func.attr != _METHOD or not isinstance(given, ast.List):
            continue
        if all(isinstance(each, ast.Constant) and isinstance(each.value, str) for each in given.elts):
            yield _Listed(call, given)


def _targets(node: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _named(lists: list[_Listed], name: str) -> list[tuple[_Listed, ast.Constant]]:
    return [
        (listed, element) for listed in lists for element in listed.elements if _name_of(str(element.value)) == name
    ]


def _name_of(requirement: str) -> str | None:
    try:
        return normalised_name(Requirement(requirement).name)
    except InvalidRequirement:
        return None


def _together(before: str, requirement: str) -> str:
    """The requirement that replaces `before` when `requirement` of the same project is added. What the new one does not
    say stays, as with uv."""
    old, new, both = Requirement(before), Requirement(requirement), Requirement(requirement)
    both.extras |= old.extras
    if not (new.specifier or new.url):
        both.specifier, both.url = old.specifier, old.url
    both.marker = new.marker or old.marker
    return requirement if both == new else before if both == old else str(both)


class _Text:
    """The file's bytes, as the parser counts them, with the places of nodes in them."""

    def __init__(self, source: str) -> None:
        self.tree = ast.parse(source)
        self._bytes = source.encode("utf-8")
        self._starts = [0]
        for line in self._bytes.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def _start(self, node: ast.expr) -> int:
        return self._starts[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.expr) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._starts[node.end_lineno - 1] + node.end_col_offset

    def _with(self, start: int, end: int, text: str) -> str:
        return (self._bytes[:start] + text.encode("utf-8") + self._bytes[end:]).decode("utf-8")

    def quoted(self, text: str, like: ast.Constant | None) -> str:
        quoted = json.dumps(text, ensure_ascii=False)
        if like is not None and self._bytes[self._start(like) :][:1] == b"'" and "'" not in text and "\\" not in quoted:
            return f"'{text}'" if '"' not in text else quoted
        return quoted

    def replaced(self, node: ast.expr, text: str) -> str:
        return self._with(self._start(node), self._end(node), text)

    def appended(self, listed: _Listed, requirement: str) -> str:
        """On a line of its own where the others are."""
        if not listed.elements:
            at = self._start(listed.node) + 1
            return self._with(at, at, self.quoted(requirement, None))
        last = listed.elements[-1]
        quoted, at = self.quoted(requirement, last), self._end(last)
        before = self._bytes[self._starts[last.lineno - 1] : self._start(last)]
        if before.strip():
            return self._with(at, at, f", {quoted}")
        indent = before.decode("utf-8")
        rest = _REST_OF_LINE.match(self._bytes, at)
        if rest is None:
            return self._with(at, at, f",\n{indent}{quoted}")
        # A comment stays with what it is about.
        comma, end = rest["comma"].decode(), rest["end"].decode()
        comment = rest[0].decode("utf-8").replace(comma, "", 1)
        return self._with(at, rest.end(), f",{comment}{indent}{quoted}{comma}{end}")

    def without_element(self, listed: _Listed, element: ast.Constant) -> str:
        """With its line, where it has one of its own, and the comment there."""
        start, end = self._start(element), self._end(element)
        first = self._starts[element.lineno - 1]
        rest = _REST_OF_LINE.match(self._bytes, end)
        if not self._bytes[first:start].strip() and rest is not None:
            return self._with(first, rest.end(), "")
        position = listed.elements.index(element)
        if position + 1 < len(listed.elements):
            return self._with(start, self._start(listed.elements[position + 1]), "")
        return self._with(self._end(listed.elements[position - 1]), end, "")

    def without_call(self, call: ast.Call) -> str | None:
        """None where a comment would go with it."""
        assert isinstance(call.func, ast.Attribute)
        start, end = self._end(call.func.value), self._end(call)
        return None if b"#" in self._bytes[start:end] else self._with(start, end, "")

    def verified(self, new: str) -> str:
        """`new`, if Python reads it as the tree, in which the change was made as well."""
        try:
            read = ast.dump(ast.parse(new))
        except SyntaxError:
            read = ""
        if read != ast.dump(self.tree):
            raise KlockError(
                "the image file could not be edited safely", hint="edit it yourself, then run `klock lock`"
            )
        return new


class _Remover(ast.NodeTransformer):
    """Takes a method call out of a chain."""

    def __init__(self, call: ast.Call) -> None:
        self._call = call

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        return node.func.value if node is self._call and isinstance(node.func, ast.Attribute) else node
