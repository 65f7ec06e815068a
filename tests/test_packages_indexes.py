"""Index options are scoped as the user wrote them (cases 18 and 19 of the builder's contract)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.errors import RequirementError
from klock.packages.indexes import DEFAULT_INDEX, Index, ScopePlan, plan_scopes, settings_from_variables
from klock.packages.request import PipRequest, RequirementOptions, ScopedRequirement
from klock.packages.roots import name_of

PYPI, A, B = Index(url=DEFAULT_INDEX), Index(url="https://a.example/simple"), Index(url="https://b.example/simple")
LINKS = Index(url="https://links.example/all.html", flat=True)
OFFERED = {A: {"torch", "mine"}, B: {"torch"}, LINKS: {"flash-attn"}}


def requirement(text: str, origin: str = "kimage.py:1", **options: object) -> ScopedRequirement:
    return ScopedRequirement(text=text, origin=origin, options=RequirementOptions(**options))  # type: ignore[arg-type]


def step(*requirements: ScopedRequirement, **variables: str) -> PipRequest:
    return PipRequest(requirements=requirements, environment=variables)


def plan(*requests: PipRequest) -> ScopePlan:
    return plan_scopes(requests, name_of=name_of, offers=lambda index, name: name in OFFERED.get(index, ()))


def test_an_index_url_on_a_line_is_for_that_requirement_alone() -> None:
    found = plan(step(requirement("torch", index_url="https://u:p@a.example/simple"), requirement("numpy")))
    assert (found.shared.default, found.shared.extras) == (PYPI, ())
    assert dict(found.pins) == {"torch": A}
    assert found.fallbacks == (A,)


def test_it_is_so_for_a_lone_requirement_too() -> None:
    found = plan(step(requirement("torch", index_url=A.url)))
    assert (found.shared.default, dict(found.pins)) == (PYPI, {"torch": A})


def test_what_a_whole_file_says_is_for_all_that_a_lone_requirement_needs() -> None:
    found = plan(step(requirement("mine", index_url=A.url, for_all=True)))
    assert (found.shared.default, dict(found.pins)) == (A, {})


def test_a_source_is_for_its_project_alone() -> None:
    """Whatever it needs comes from the indexes that all have: here those of a file."""
    for others in ((), (requirement("numpy", index_url=B.url, for_all=True),)):
        torch = requirement("torch", index_url=B.url, only_from=A.url, for_all=True)
        found = plan(step(torch, requirement("mine", index_url=B.url, only_from=A.url, for_all=True), *others))
        assert (found.shared.default, dict(found.pins)) == (B, {"torch": A, "mine": A})
        assert found.fallbacks == ()


def test_an_extra_index_is_used_for_a_project_it_has() -> None:
    found = plan(step(requirement("mine", extra_index_urls=(A.url,)), requirement("numpy", extra_index_urls=(B.url,))))
    assert dict(found.pins) == {"mine": A}
    assert found.fallbacks == (A, B)


def test_the_first_extra_index_that_has_it_wins() -> None:
    found = plan(step(requirement("torch", extra_index_urls=(B.url, A.url)), requirement("numpy")))
    assert dict(found.pins) == {"torch": B}


def test_find_links_on_a_line() -> None:
    found = plan(step(requirement("flash-attn==2.7.3", find_links=(LINKS.url,)), requirement("torch")))
    assert (dict(found.pins), found.shared.find_links) == ({"flash-attn": LINKS}, ())


def test_what_every_requirement_has_is_simply_an_index() -> None:
    """A requirements file's own options come with each of its requirements."""
    found = plan(step(requirement("torch", extra_index_urls=(A.url,)), requirement("numpy", extra_index_urls=(A.url,))))
    assert (found.shared.extras, dict(found.pins), found.fallbacks) == ((A,), {}, ())
    found = plan(step(requirement("torch", index_url=A.url), requirement("numpy", index_url=A.url)))
    assert (found.shared.default, dict(found.pins)) == (A, {})


def test_variables_set_before_all_pip_steps_are_for_all() -> None:
    found = plan(
        step(requirement("torch"), UV_EXTRA_INDEX_URL="https://u:p@a.example/simple"),
        step(requirement("numpy"), UV_EXTRA_INDEX_URL="https://u:p@a.example/simple"),
    )
    assert (found.shared.extras, dict(found.pins)) == ((A,), {})


def test_variables_set_between_two_pip_steps_are_for_the_second() -> None:
    found = plan(step(requirement("torch")), step(requirement("mine"), UV_EXTRA_INDEX_URL=A.url))
    assert (found.shared.extras, dict(found.pins)) == ((), {"mine": A})


def test_a_default_index_of_one_step_is_that_steps() -> None:
    found = plan(step(requirement("numpy")), step(requirement("pandas"), UV_INDEX_URL=B.url))
    assert (found.shared.default, dict(found.pins)) == (PYPI, {"pandas": B})


def test_two_indexes_for_one_project_are_refused() -> None:
    with pytest.raises(RequirementError) as caught:
        plan(
            step(requirement("torch", "k.py:3", index_url=A.url)), step(requirement("torch", "k.py:9", index_url=B.url))
        )
    assert caught.value.message == f"k.py:9: torch is to come from {B.url}, but k.py:3 takes it from {A.url}"


def test_an_image_without_pip_steps_has_the_default_index() -> None:
    assert plan().shared.default == PYPI


@pytest.mark.parametrize(
    ("variables", "default", "extras", "links", "pre"),
    [
        ({}, PYPI, (), (), False),
        ({"UV_INDEX": f"corp={A.url} {B.url}"}, PYPI, (A, B), (), False),
        ({"UV_EXTRA_INDEX_URL": A.url, "PIP_EXTRA_INDEX_URL": f"{B.url} {A.url}"}, PYPI, (A, B), (), False),
        ({"UV_DEFAULT_INDEX": A.url, "PIP_INDEX_URL": B.url}, A, (), (), False),
        ({"PIP_INDEX_URL": B.url}, B, (), (), False),
        ({"UV_NO_INDEX": "1", "UV_FIND_LINKS": LINKS.url, "UV_EXTRA_INDEX_URL": A.url}, None, (), (LINKS,), False),
        ({"UV_PRERELEASE": "allow"}, PYPI, (), (), True),
        ({"UV_PRERELEASE": "disallow", "PIP_PRE": "0"}, PYPI, (), (), False),
        ({"PIP_PRE": "yes"}, PYPI, (), (), True),
    ],
)
def test_variables_of_uv_and_pip(
    variables: dict[str, str], default: Index | None, extras: tuple[Index, ...], links: tuple[Index, ...], pre: bool
) -> None:
    found = settings_from_variables(variables)
    assert (found.default, found.extras, found.find_links, found.pre) == (default, extras, links, pre)


LINES = st.builds(
    requirement,
    st.sampled_from(["torch", "numpy", "mine", "flash-attn"]),
    index_url=st.sampled_from([None, A.url]),
    extra_index_urls=st.sampled_from([(), (A.url,)]),
    find_links=st.sampled_from([(), (LINKS.url,)]),
)


@given(st.lists(st.lists(LINES, min_size=1, max_size=3), min_size=1, max_size=3))
def test_a_project_is_pinned_only_to_an_index_one_of_its_lines_names(steps: list[list[ScopedRequirement]]) -> None:
    requests = [step(*lines) for lines in steps]
    try:
        found = plan(*requests)
    except RequirementError:
        return
    for name, index in found.pins.items():
        lines = [r.options for request in requests for r in request.requirements if r.text == name]
        assert any(index.url in line.urls for line in lines)
    for index in (*found.shared.extras, *found.shared.find_links):
        assert all(index.url in r.options.urls for request in requests for r in request.requirements)
