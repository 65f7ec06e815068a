"""Klock's notes of a convergence: each step is written down before it begins, and again when it is done or taken back.

The state on disk is replaced in one rename at every transition, and what it names is on disk before. So after a kill
the next call knows what was going on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from klock.digests import Digest
from klock.places.here.state import Doing, Done, State, StateFolder
from klock.places.here.tree import Tree

__all__ = ["Journal"]


class Journal:
    """`state` is what is on disk. `folder` is locked by the caller."""

    def __init__(self, folder: StateFolder, state: State) -> None:
        self.folder = folder
        self.state = state

    @classmethod
    def started(cls, folder: StateFolder, *, base: str, tree: Tree) -> Journal:
        """The first one of a container, whose root is `tree`."""
        first = folder.write_tree(tree)
        journal = cls(folder, State(base=base, first=first, tree=first))
        folder.write(journal.state)
        return journal

    @property
    def tree(self) -> Tree:
        """The root as the last transition left it."""
        return self.folder.read_tree(self.state.tree)

    def _write(self, state: State) -> None:
        self.state = state
        self.folder.write(state)

    def note_others_work(self, tree: Tree) -> None:
        """Programs, not steps, wrote what changed since the last sync."""
        self._write(replace(self.state, tree=self.folder.write_tree(tree), record=None))

    # -- a step

    def begin(self, doing: Doing, tree: Tree | None) -> None:
        """`tree`: the root before the step, when it is another one than the last transition left."""
        name = self.state.tree if tree is None else self.folder.write_tree(tree)
        self._write(replace(self.state, tree=name, doing=doing, record=None))

    def end(self, done: Done, tree: Tree) -> None:
        self._write(replace(self.state, tree=self.folder.write_tree(tree), steps=(*self.state.steps, done), doing=None))

    def abandon(self) -> None:
        """The step that was begun is taken back."""
        self._write(replace(self.state, doing=None))

    def abandon_in_place(self, tree: Tree) -> None:
        """The step that was begun stays half done, and the root is not what is locked from now on."""
        assert self.state.doing is not None
        self._write(
            replace(
                self.state,
                tree=self.folder.write_tree(tree),
                doing=None,
                forced=(*self.state.forced, self.state.doing.text),
            )
        )

    # -- taking a step back

    def begin_taking_back(self) -> None:
        self._write(replace(self.state, record=None))

    def took_back(self, tree: Tree, *, left: Iterable[str]) -> None:
        """The last step is gone. `left`: folders that it or others before had made, and that stay."""
        self._write(
            replace(
                self.state, tree=self.folder.write_tree(tree), steps=self.state.steps[:-1], left=tuple(sorted(left))
            )
        )

    def leave(self, done: Done) -> None:
        """The last step cannot be taken back: its changes stay, and no longer belong to a step."""
        self._write(
            replace(self.state, steps=self.state.steps[:-1], record=None, forced=(*self.state.forced, done.text))
        )

    # -- the end

    def finish(self, tree: Tree, record: Mapping[str, object]) -> None:
        """All steps are done. What only earlier states needed goes."""
        paths = {path for done in self.state.steps for path in self.folder.layer(done.layer)}
        made = Tree({path: seen for path, seen in tree.items() if path in paths})
        left = tuple(path for path in self.state.left if path in tree and path not in paths)
        self._write(
            replace(
                self.state,
                tree=self.folder.write_tree(tree),
                made=self.folder.write_tree(made),
                record=record,
                left=left,
            )
        )
        self.folder.forget_others(self.state)

    def layers(self) -> list[Digest]:
        return [done.layer for done in self.state.steps]
