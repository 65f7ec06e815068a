"""Methods that begin an image: of the class, `Image.from_dockerfile(...)`, and of an image that says nothing of its
files yet, `Image("name").from_dockerfile(...)`."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Concatenate, Generic, ParamSpec, TypeVar

__all__ = ["begins"]

Beginning = TypeVar("Beginning")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class begins(Generic[Beginning, Arguments, Result]):  # noqa: N801 (a decorator)
    """Called on the class, the method gets a new instance."""

    def __init__(self, method: Callable[Concatenate[Beginning, Arguments], Result]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, instance: Beginning | None, owner: Callable[[], Beginning]) -> Callable[Arguments, Result]:
        return MethodType(self._method, owner() if instance is None else instance)
