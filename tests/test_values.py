"""`klock.values`: what a value can do is what the standard library's dataclass of the same text can do."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import pickle
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.values import dataclass, field, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A value with each kind of field."""

    x: int
    label: str = "p"
    where: str = dataclasses.field(default="", compare=False)
    secret: str = dataclasses.field(default="", repr=False)
    seen: list[int] = dataclasses.field(default_factory=list, compare=False)

    def moved(self) -> Point:
        return dataclasses.replace(self, x=self.x + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    marks: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deep(Point):
    z: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Empty:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    size: int

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """Methods that a class brings stay."""

    x: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own)

    def __hash__(self) -> int:
        return 7

    def __repr__(self) -> str:
        return "own"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Version:
    major: int
    minor: int = 0


# The same text, made by the standard library.
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, order=True)
class StandardVersion:
    major: int
    minor: int = 0


StandardVersion.__qualname__ = "Version"


def test_fields_defaults_and_factories() -> None:
    one, other = Point(x=1), Point(x=1)
    assert (one.x, one.label, one.where, one.seen) == (1, "p", "", [])
    assert one.seen is not other.seen
    assert [field.name for field in dataclasses.fields(one)] == ["x", "label", "where", "secret", "seen"]
    assert dataclasses.asdict(Version(major=1)) == {"major": 1, "minor": 0}
    assert not hasattr(one, "__dict__")


def test_a_fresh_default_is_each_ones_own() -> None:
    one, other = Marked(), Marked()
    assert (one, one.marks) == (other, []) and one.marks is not other.marks
    assert Marked(marks=[1]).marks == [1]
    assert [field.default_factory for field in dataclasses.fields(Marked)] == [list]


def test_what_asks_nothing_of_dataclasses_does_not_import_it() -> None:
    script = (
        "import sys; before = set(sys.modules); import klock.places.sandbox.launch, klock.places.sandbox.execution\n"
    )
    script += "print(*sorted({'dataclasses', 'inspect', 'pickle', 'shutil', 'socket', 'traceback'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "\n"


def test_equality_hash_and_text_leave_out_what_their_fields_say() -> None:
    assert Point(x=1, where="a") == Point(x=1, where="b")
    assert hash(Point(x=1, where="a")) == hash(Point(x=1, where="b"))
    assert Point(x=1) != Point(x=2)
    assert Point(x=1) != Deep(x=1, z=1)
    assert repr(Point(x=1, secret="s")) == "Point(x=1, label='p', where='', seen=[])"
    assert (Empty() == Empty(), repr(Empty())) == (True, "Empty()")


def test_a_value_cannot_be_changed() -> None:
    value: Any = Point(x=1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'x'"):
        value.x = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'other'"):
        value.other = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'x'"):
        del value.x


def test_a_subclass_has_the_fields_of_both() -> None:
    deep = Deep(x=1, z=3)
    assert (deep.x, deep.label, deep.z) == (1, "p", 3)
    assert deep.moved() == Deep(x=2, z=3)


def test_what_a_class_brings_stays() -> None:
    assert (Own(x=1) == Own(x=2), hash(Own(x=1)), repr(Own(x=1))) == (True, 7, "own")
    with pytest.raises(ValueError, match="negative"):
        Checked(size=-1)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_value_can_be_copied_and_sent(copied: Any) -> None:
    value = Deep(x=1, z=2, where="here", seen=[3])
    assert repr(copied(value)) == repr(value)


def _call(cls: Any, arguments: dict[str, int]) -> str:
    try:
        return repr(cls(**arguments))
    except TypeError as error:
        return str(error).replace("StandardVersion", "Version")


@given(st.dictionaries(st.sampled_from(["major", "minor", "other", "values"]), st.integers()))
def test_arguments_are_taken_and_refused_as_by_the_standard_library(arguments: dict[str, int]) -> None:
    assert _call(Version, arguments) == _call(StandardVersion, arguments)


@given(st.tuples(st.integers(0, 2), st.integers(0, 2)), st.tuples(st.integers(0, 2), st.integers(0, 2)))
def test_an_order_is_that_of_the_standard_library(a: tuple[int, int], b: tuple[int, int]) -> None:
    def compared(cls: Any) -> list[bool]:
        one, other = cls(major=a[0], minor=a[1]), cls(major=b[0], minor=b[1])
        return [one < other, one <= other, one > other, one >= other, one == other, hash(one) == hash(other)]

    assert compared(Version) == compared(StandardVersion)
    number: Any = 1
    with pytest.raises(TypeError, match="not supported between instances"):
        assert Version(major=1) < number


def test_a_signature_is_told_to_who_asks() -> None:
    assert str(inspect.signature(Version)) == "(*, major: 'int', minor: 'int' = 0)"


@dataclass(slots=True, kw_only=True)
class Changing:
    x: int
    seen: list[int] = field(default_factory=list, repr=False)


@dataclass(frozen=True, kw_only=True)
class WithoutSlots:
    x: int
    seen: list[int] = field(default_factory=list, compare=False)

    @functools.cached_property
    def doubled(self) -> int:
        return self.x * 2


@dataclass(slots=True)
class Positional:
    x: int


def test_what_may_change_has_no_hash() -> None:
    changing = Changing(x=1)
    changing.x = 2
    changing.seen.append(3)
    assert (changing, repr(changing)) == (Changing(x=2, seen=[3]), "Changing(x=2)")
    assert Changing(x=1).seen is not Changing(x=1).seen
    with pytest.raises(TypeError, match="unhashable type: 'Changing'"):
        hash(changing)
    with pytest.raises(AttributeError):
        changing.y = 1  # type: ignore[attr-defined]
    assert pickle.loads(pickle.dumps(changing)) == copy.deepcopy(changing) == changing


def test_one_without_slots_keeps_what_it_worked_out() -> None:
    one: Any = WithoutSlots(x=1)
    assert (one.doubled, one.__dict__["doubled"], one.seen, hasattr(WithoutSlots, "seen")) == (2, 2, [], False)
    assert (one, hash(one)) == (WithoutSlots(x=1, seen=[2]), hash(WithoutSlots(x=1)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.x = 2


@pytest.mark.parametrize("value", [Point(x=1, where="here"), Changing(x=1), WithoutSlots(x=1), Positional(1)])
def test_replacing_is_that_of_the_standard_library(value: Any) -> None:
    mine, standards = replace(value, x=5), dataclasses.replace(value, x=5)
    assert (repr(mine), type(mine)) == (repr(standards), type(value)) and mine == standards and mine.x == 5
    with pytest.raises(TypeError, match="unexpected keyword argument 'nobody'"):
        replace(value, nobody=1)


def test_classes_that_are_no_values_are_the_standard_librarys() -> None:
    positional = Positional(1)
    positional.x = 2
    assert positional == Positional(2)


_COUNT = """
import dataclasses, sys
made, real = [], dataclasses._process_class
def counting(cls, init, repr, eq, order, unsafe_hash, frozen, match_args, kw_only, slots, *rest):
    if frozen and kw_only and slots and cls.__module__.startswith("klock"):
        made.append(cls.__qualname__)
    return real(cls, init, repr, eq, order, unsafe_hash, frozen, match_args, kw_only, slots, *rest)
dataclasses._process_class = counting
import klock.commands.lock, klock.commands.sync, klock.commands.run, klock.api, klock.locking.target, klock.replay
import klock.steps.pip.resolving, klock.layers.scan
print(*made)
"""


def test_commands_start_with_no_value_that_is_slow_to_define() -> None:
    """But one, of which so many are made that it matters how long that takes."""
    ran = subprocess.run([sys.executable, "-c", _COUNT], capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) <= {"Entry"}
