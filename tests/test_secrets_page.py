"""docs/secrets.md says what the code goes by. After a change of the vocabulary, `python -m tests.test_secrets_page`
writes the page's lists anew."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from klock.errors import ImageError
from klock.secrets.credential_files import FILES
from klock.secrets.references import redact
from klock.secrets.vocabulary import NAMES, PROGRAMS, TOKENS

PAGE: Final = Path(__file__).parent.parent / "docs" / "secrets.md"


def names() -> str:
    lines = ["| name | how much of the name | a path is fine | examples |", "|---|---|---|---|"]
    for entry in NAMES:
        fit = entry.fit.value
        if entry.in_variables:
            fit += f"; of a variable {entry.in_variables.value}"
        examples = ", ".join(f"`{name}`" for name in entry.examples)
        path = "yes" if entry.may_be_path or not entry.sure else ""
        lines.append(f"| {entry.words}{'' if entry.sure else ' *'} | {fit} | {path} | {examples} |")
    return "\n".join(lines)


def tokens() -> str:
    return "\n".join(f"- {form.words}" for form in TOKENS)


def programs() -> str:
    return "\n".join(f"    {option.example}" for option in PROGRAMS)


def files() -> str:
    lines = ["| what | names | if it holds |", "|---|---|---|"]
    for file in FILES:
        named = ", ".join("any" if name == "*" else f"`{name}`" for name in file.names)
        besides = ", not " + ", ".join(f"`{name}`" for name in file.besides) if file.besides else ""
        lines.append(f"| {file.words} | {named}{besides} | {file.holds_in_words} |")
    return "\n".join(lines)


LISTS: Final[dict[str, Callable[[], str]]] = {
    "names": names,
    "tokens": tokens,
    "programs": programs,
    "files": files,
}


def block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=<!-- {name}: )([^\n]*-->\n\n)(?P<list>.*?)(?=\n\n<!-- end -->)", re.DOTALL)


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_the_page_is_that_of_the_code(name: str) -> None:
    found = block(name).search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    assert found["list"] == LISTS[name]()


def test_the_example_of_the_page_is_refused_in_the_words_it_shows() -> None:
    page = PAGE.read_text(encoding="utf-8")
    refused, taken = re.findall(r'run_bash\(f?"(.*)"\)', page)
    with pytest.raises(ImageError) as caught:
        redact(refused, {}, what="the command of run_bash")
    assert f"error: step 1 (kimage.py:3): {caught.value.message}\n" in page
    assert f"hint: {caught.value.hint}\n" in page
    command = taken.replace("{key}", "3f9a8c7b")
    redacted = redact(command, {"ACCESS_KEY": "3f9a8c7b"}, what="the command of run_bash")
    assert "access_key=${ACCESS_KEY}'" in redacted.text
    assert "`access_key=${ACCESS_KEY}`" in page


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    for name, write in LISTS.items():
        written = write()
        text = block(name).sub(lambda match, written=written: match[1] + written, text)  # type: ignore[misc]
    PAGE.write_text(text, encoding="utf-8")
