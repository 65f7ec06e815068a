"""The documentation keeps up with the builder: its examples are Python, and nothing public is left out."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import klock as kt

ROOT = Path(__file__).parent.parent
IMAGE_PAGE = (ROOT / "docs" / "image.md").read_text(encoding="utf-8")
DOCUMENTS = ("README.md", "docs/image.md", "docs/export.md")


def _python_blocks(document: str) -> list[tuple[str, str]]:
    """Each Python code block of a document with its place, `docs/image.md:10`."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.finditer(r"^```python\n(?P<code>.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(f"{document}:{text.count(chr(10), 0, block.start()) + 1}", block["code"]) for block in blocks]


BLOCKS = [block for document in DOCUMENTS for block in _python_blocks(document)]


@pytest.mark.parametrize(("place", "code"), BLOCKS, ids=[place for place, _ in BLOCKS])
def test_a_code_block_compiles(place: str, code: str) -> None:
    compile(code, place, "exec")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_has_code_blocks_and_they_are_found(document: str) -> None:
    assert _python_blocks(document)


@pytest.mark.parametrize("name", [name for name in vars(kt.Image) if not name.startswith("_")])
def test_the_image_page_and_a_docstring_describe_what_is_public_of_an_image(name: str) -> None:
    assert re.search(rf"`(Image\.)?{name}[`(]|^    (Image\.)?{name}\(|^#+ .*\b{name}\b", IMAGE_PAGE, re.MULTILINE)
    assert inspect.getdoc(vars(kt.Image)[name])


@pytest.mark.parametrize("name", [name for name in vars(kt.Image()) if not name.startswith("_")])
def test_the_image_page_describes_an_attribute(name: str) -> None:
    assert f"`{name}`" in IMAGE_PAGE


@pytest.mark.parametrize("name", kt.images.__all__)
def test_the_image_page_and_a_docstring_describe_a_factory(name: str) -> None:
    assert f"`{name}(" in IMAGE_PAGE
    assert inspect.getdoc(getattr(kt.images, name))


PROSE = re.sub(r"^```.*?^```$", "", IMAGE_PAGE, flags=re.MULTILINE | re.DOTALL)
SIGNATURES = re.findall(r"^    (?:[\w.]+\.)?(\w+)\((.*)\)$", PROSE, re.MULTILINE)


@pytest.mark.parametrize(("name", "written"), SIGNATURES, ids=[name for name, _ in SIGNATURES])
def test_a_signature_on_the_image_page_is_that_of_the_code(name: str, written: str) -> None:
    function = next(getattr(place, name) for place in (kt.Image, kt.images, kt) if hasattr(place, name))
    parameters = list(inspect.signature(function).parameters.values())
    shown = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters if p.name != "self"]
    by_keyword = next((n for n, p in enumerate(parameters) if p.kind is p.KEYWORD_ONLY), None)
    if by_keyword is not None:
        shown.insert(by_keyword - 1, "*")
    assert written == ", ".join(shown)


def test_links_between_the_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}, which is not there"
