"""Names of Python projects: klock's own function agrees with packaging's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from klock.project_names import normalised_name


@given(name=st.text(alphabet=st.one_of(st.sampled_from("-_.aZ0"), st.characters())))
def test_a_name_is_normalised_as_packaging_does(name: str) -> None:
    assert normalised_name(name) == canonicalize_name(name)
