"""Names of Python projects: klock's own functions agree with packaging's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from klock import project_names
from klock.packages import compile_script


@pytest.mark.parametrize("normalised", [project_names.normalised_name, compile_script.normalised_name])
@given(name=st.text(alphabet=st.one_of(st.sampled_from("-_.aZ0"), st.characters())))
def test_a_name_is_normalised_as_packaging_does(normalised: Callable[[str], str], name: str) -> None:
    assert normalised(name) == canonicalize_name(name)
