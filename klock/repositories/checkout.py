"""The files of a commit as `git checkout` lays them out, with those of its submodules.

Modes are 0644 and 0755 (gitformat-index(5) knows no others). Attributes that are files of the tree count: line ends
(`text`, `eol`) and `ident` (gitattributes(5)). Filters do not: they are programs, and nobody configured any.
"""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from klock.errors import FetchError
from klock.values import dataclass, field

if TYPE_CHECKING:
    from dulwich.attrs import GitAttributes
    from dulwich.objects import Tree

__all__ = ["Checkout", "Leaf", "Submodule"]

_FOLDER: Final = 0o040000
_LINK: Final = 0o120000
_SUBMODULE: Final = 0o160000
_MODULES: Final = b".gitmodules"
_IDENT: Final = re.compile(rb"\$Id(?::[^$\n]*)?\$")
_MOST_FILES: Final = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What is at `path`, relative to the root of the commit's tree: a file, with its bytes, a symlink, whose text they
    are, or a folder. `name` is that of the object in git, of nothing else."""

    path: bytes
    mode: int
    content: bytes = b""
    is_link: bool = False
    is_folder: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submodule:
    """`url` as .gitmodules has it, `commit` as the tree has it."""

    path: bytes
    url: str
    commit: str


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """A commit in an object store. `source` names the repository in messages, and `open_submodule` gives the checkout
    of a submodule; None: their folders are empty. Methods raise FetchError for what git would not check out."""

    objects: Any
    commit: str
    source: str
    open_submodule: Callable[[Submodule], Checkout] | None = None
    _trees: dict[bytes, Tree] = field(default_factory=dict, repr=False)

    def leaves(self, folder: str = "") -> Iterator[Leaf]:
        """All that is below a folder of the tree, each after the folder that it is in, sorted by name."""
        root = self._root()
        start = self._below(root, folder)
        attributes = self._attributes(root)
        leaves = self._walk(start, folder.encode("utf-8", "surrogateescape"), attributes)
        for count, leaf in enumerate(leaves):
            if count >= _MOST_FILES:
                raise FetchError(f"{self.source} has more than {_MOST_FILES} files", hint="name a folder of it")
            yield leaf

    def entries(self) -> Iterator[tuple[bytes, int, bytes]]:
        """All files of the commit's tree as git has them: path, mode and object, with the commits of submodules."""
        yield from self._entries(self._root(), b"")

    def reachable(self) -> list[tuple[int, str, bytes]]:
        """All objects that the commit consists of, with itself: git's number of the type, name and bytes, by name."""
        found = {self.commit: self.objects[self.commit.encode()]}
        waiting = [found[self.commit].tree]
        while waiting:
            name = waiting.pop()
            if name.decode() in found:
                continue
            each = found[name.decode()] = self.objects[name]
            if each.type_num == 2:
                waiting += [sha for _, mode, sha in each.iteritems() if mode != _SUBMODULE]
        return [(each.type_num, name, each.as_raw_string()) for name, each in sorted(found.items())]

    # -- trees

    def _root(self) -> Tree:
        commit = self._object(self.commit.encode())
        if commit.type_num != 1:
            raise FetchError(f"{self.source}: {self.commit} is not a commit", hint="name a branch, a tag or a commit")
        tree: Tree = self._object(commit.tree)
        return tree

    def _object(self, name: bytes) -> Any:
        try:
            return self.objects[name]
        except KeyError:
            raise FetchError(f"{self.source} sent no object {name.decode()}", hint="try again later") from None

    def _below(self, tree: Tree, folder: str) -> Tree:
        for part in folder.split("/") if folder else ():
            entry = next((e for e in tree.iteritems() if e[0] == part.encode("utf-8", "surrogateescape")), None)
            if entry is None or entry[1] != _FOLDER:
                raise FetchError(
                    f"{self.source} has no folder {folder} at commit {self.commit[:12]}", hint="check the folder"
                )
            tree = self._object(entry[2])
        return tree

    def _children(self, tree: Tree, path: bytes) -> list[tuple[bytes, int, bytes]]:
        from dulwich.index import validate_path_element_default

        found: list[tuple[bytes, int, bytes]] = sorted((name, mode, sha) for name, mode, sha in tree.iteritems())
        for name, _, _ in found:
            # As git does, so that no tree can bring a repository's configuration along.
            if not validate_path_element_default(name) or b"/" in name or b"\0" in name:
                at = posixpath.join(path, name).decode("utf-8", "replace")
                raise FetchError(f"{self.source}: git checks out no path {at!r}", hint="report it there")
        if len({name for name, _, _ in found}) < len(found):
            raise FetchError(f"{self.source} has two files of one name", hint="report it there")
        return found

    def _walk(self, tree: Tree, path: bytes, attributes: GitAttributes) -> Iterator[Leaf]:
        for name, mode, sha in self._children(tree, path):
            below = posixpath.join(path, name)
            if mode == _FOLDER:
                yield Leaf(path=below, mode=0o755, is_folder=True)
                yield from self._walk(self._object(sha), below, attributes)
            elif mode == _SUBMODULE:
                yield Leaf(path=below, mode=0o755, is_folder=True)
                yield from self._submodule(below, sha.decode("ascii"))
            else:
                content = self._object(sha).as_raw_string()
                if mode == _LINK:
                    yield Leaf(path=below, mode=0o777, content=content, is_link=True, name=sha.decode())
                else:
                    content = _converted(content, below, sha, attributes)
                    yield Leaf(path=below, mode=0o755 if mode & 0o100 else 0o644, content=content, name=sha.decode())

    def _entries(self, tree: Tree, path: bytes) -> Iterator[tuple[bytes, int, bytes]]:
        for name, mode, sha in self._children(tree, path):
            below = posixpath.join(path, name)
            if mode == _FOLDER:
                yield from self._entries(self._object(sha), below)
            else:
                yield below, mode if mode in (_LINK, _SUBMODULE) else 0o100755 if mode & 0o100 else 0o100644, sha

    def _submodule(self, path: bytes, commit: str) -> Iterator[Leaf]:
        if self.open_submodule is None:
            return
        url = next((url for known, url in self._modules() if known == path), None)
        if url is None:
            raise FetchError(
                f"{self.source}: .gitmodules does not say where the submodule {path.decode('utf-8', 'replace')} is",
                hint="leave submodules out: add ?submodules=false to the URL",
            )
        checkout = self.open_submodule(Submodule(path=path, url=url, commit=commit))
        for leaf in checkout.leaves():
            yield Leaf(
                path=posixpath.join(path, leaf.path),
                mode=leaf.mode,
                content=leaf.content,
                is_link=leaf.is_link,
                is_folder=leaf.is_folder,
            )

    def _modules(self) -> Sequence[tuple[bytes, str]]:
        from dulwich.config import ConfigFile, parse_submodules

        entry = next((e for e in self._root().iteritems() if e[0] == _MODULES), None)
        if entry is None or entry[1] in (_FOLDER, _LINK, _SUBMODULE):
            return ()
        try:
            config = ConfigFile.from_file(io.BytesIO(self._object(entry[2]).as_raw_string()))
        except ValueError as error:
            raise FetchError(f"{self.source}: cannot read .gitmodules: {error}", hint="report it there") from error
        return [(path, url.decode("utf-8", "surrogateescape")) for path, url, _ in parse_submodules(config)]

    def _attributes(self, root: Tree) -> GitAttributes:
        from dulwich.attrs import GitAttributes, compile_gitattributes_patterns, parse_git_attributes

        def load(folder: bytes) -> list[Any]:
            tree = root
            for part in folder.split(b"/") if folder else ():
                entry = next((e for e in tree.iteritems() if e[0] == part), None)
                if entry is None or entry[1] != _FOLDER:
                    return []
                tree = self._object(entry[2])
            entry = next((e for e in tree.iteritems() if e[0] == b".gitattributes"), None)
            if entry is None or entry[1] in (_FOLDER, _LINK, _SUBMODULE):
                return []
            lines = io.BytesIO(self._object(entry[2]).as_raw_string())
            return compile_gitattributes_patterns(parse_git_attributes(lines), b".gitattributes", base=folder)

        return GitAttributes(load(b""), directory_loader=load)


def _converted(content: bytes, path: bytes, name: bytes, attributes: GitAttributes) -> bytes:
    from dulwich.line_ending import line_ending_filter_for_action, resolve_crlf_action

    of_path = attributes.match_path(path)
    if not of_path:
        return content
    if of_path.get(b"ident") is True:
        content = _IDENT.sub(b"$Id: " + name + b" $", content)
    action = line_ending_filter_for_action(resolve_crlf_action(of_path, core_eol="lf"))
    return content if action is None else action.smudge(content, path)
