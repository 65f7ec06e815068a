"""`klock add` and `klock remove` edit the image file as its user would, or leave it and say what to write."""

from __future__ import annotations

import pytest

from klock.errors import KlockError, RequirementError
from klock.image.editing import add_requirement, remove_requirement

HEAD = "import klock as kt\n\n"
ONE_LINE = HEAD + 'image = kt.Image().from_docker("x").pip_install(["a>=1", "b"]).workdir("/ä")\n'
LINES = HEAD + (
    "image = (\n    kt.Image('ü')\n    .pip_install(['first'])\n    .pip_install([\n        'a>=1',  # why a\n"
    "        'b[x]',\n    ])\n    .run_bash('make')\n)\n"
)

ADDED = {
    "to a list on one line": (ONE_LINE, "c", ONE_LINE.replace('"b"]', '"b", "c"]')),
    "to a list of lines, quoted as they are": (LINES, "c>=2", LINES.replace("'b[x]',\n", "'b[x]',\n        'c>=2',\n")),
    "in the place of the same project": (ONE_LINE, "A>2", ONE_LINE.replace("a>=1", "A>2")),
    "with more versions, and the extras that are there": (LINES, "b>2", LINES.replace("b[x]", "b[x]>2")),
    "that says less than what is there": (LINES, "b", LINES),
    "with an extra more, and the versions that are there": (ONE_LINE, "a[y]", ONE_LINE.replace("a>=1", "a[y]>=1")),
    "in the place of one with a marker": (
        HEAD + "image = kt.Image().pip_install(['a>1 ; python_version < \"4\"'])\n",
        "a>2",
        HEAD + 'image = kt.Image().pip_install(["a>2; python_version < \\"4\\""])\n',
    ),
    "behind a comment, which stays where it is": (
        HEAD + "image = kt.Image().pip_install([\n    'a',\n    'b'  # why, and since when\n])\n",
        "c",
        HEAD + "image = kt.Image().pip_install([\n    'a',\n    'b',  # why, and since when\n    'c'\n])\n",
    ),
    "behind a comma and a comment": (
        HEAD + "image = kt.Image().pip_install([\n    'a' ,  # why\n    # end\n])\n",
        "c",
        HEAD + "image = kt.Image().pip_install([\n    'a',   # why\n    'c',\n    # end\n])\n",
    ),
    "to lines of another system": (
        HEAD + "image = kt.Image().pip_install([\r\n    'a',\r\n])\r\n",
        "c",
        HEAD + "image = kt.Image().pip_install([\r\n    'a',\r\n    'c',\r\n])\r\n",
    ),
    "to a line that ends the list": (
        HEAD + "image = kt.Image().pip_install([\n    'a'])\n",
        "c",
        HEAD + "image = kt.Image().pip_install([\n    'a',\n    'c'])\n",
    ),
    "with a marker": (
        ONE_LINE,
        'c; python_version < "3.12"',
        ONE_LINE.replace('"b"]', '"b", "c; python_version < \\"3.12\\""]'),
    ),
    "to an empty list": (
        HEAD + "image = kt.Image().pip_install([])\n",
        "c",
        HEAD + 'image = kt.Image().pip_install(["c"])\n',
    ),
    "to an image with a type": (
        HEAD + "image: kt.Image = kt.Image().pip_install(['a'])\n",
        "c",
        HEAD + "image: kt.Image = kt.Image().pip_install(['a', 'c'])\n",
    ),
}


@pytest.mark.parametrize(("source", "requirement", "expected"), ADDED.values(), ids=ADDED)
def test_a_requirement_is_added(source: str, requirement: str, expected: str) -> None:
    assert add_requirement(source, "image", requirement) == expected


REMOVED = {
    "the first of a line": (ONE_LINE, "A", ONE_LINE.replace('"a>=1", ', "")),
    "the last of a line": (ONE_LINE, "b", ONE_LINE.replace(', "b"', "")),
    "a line with its comment": (LINES, "a", LINES.replace("        'a>=1',  # why a\n", "")),
    "all that a call installs": (LINES, "first", LINES.replace("\n    .pip_install(['first'])", "")),
}


@pytest.mark.parametrize(("source", "project", "expected"), REMOVED.values(), ids=REMOVED)
def test_a_requirement_is_removed(source: str, project: str, expected: str) -> None:
    assert remove_requirement(source, "image", project) == expected


LEFT = {
    "no list": HEAD + 'image = kt.Image().pip_install("a")\n',
    "a list that is computed": HEAD + "names = ['a']\nimage = kt.Image().pip_install(names)\n",
    "a list with more than strings": HEAD + "image = kt.Image().pip_install(['a', f'b=={1}'])\n",
    "an image that is made twice": HEAD + "image = kt.Image()\nimage = image.pip_install(['a'])\n",
    "an image that is made in a function": HEAD + "def make():\n    image = kt.Image().pip_install(['a'])\n",
}


@pytest.mark.parametrize("source", LEFT.values(), ids=LEFT)
def test_what_is_not_sure_is_left_and_the_line_is_told(source: str) -> None:
    with pytest.raises(KlockError) as refused:
        add_requirement(source, "image", "c>=1")
    assert refused.value.hint == 'write it into the image yourself, and lock: .pip_install(["c>=1"])'
    with pytest.raises(KlockError):
        remove_requirement(source, "image", "a")


def test_what_is_no_requirement_is_refused() -> None:
    for wrong in ("", "-r x", "./x", "a b", "numpy>=>1"):
        with pytest.raises(RequirementError):
            add_requirement(ONE_LINE, "image", wrong)


def test_a_project_that_is_not_asked_for_leads_to_what_asks_for_it() -> None:
    with pytest.raises(KlockError, match="no list of pip_install in image asks for numpy") as refused:
        remove_requirement(ONE_LINE, "image", "numpy")
    assert refused.value.hint is not None
    assert "`klock why numpy`" in refused.value.hint
    with pytest.raises(KlockError) as refused:
        remove_requirement(HEAD + "image = kt.Image().pip_install(['Pygments>2', 'rich'])\n", "image", "pigments")
    assert refused.value.hint == "did you mean pygments?"
    with pytest.raises(KlockError, match="a comment in it"):
        remove_requirement(HEAD + "image = kt.Image().pip_install([\n    'a',  # why\n])\n", "image", "a")
