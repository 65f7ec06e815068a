"""The documentation keeps up with the code: its examples are Python, its links lead somewhere, its commands are run or
say why not, and nothing public of the builder is left out."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest

import klock as kt
from klock.commands.line import klock
from klock.findings import Code
from klock.project import Settings
from tests.documents import PAGES, ROOT, Block, Command, Page, read_page, same_output
from tests.documents_terminal import differences

NEED_NO_SANDBOX = ("docs/commands.md",)
"""Pages whose console blocks run here. Those of other pages run in tests/integration/test_docs_commands.py."""

BLOCKS = [block for page in PAGES for block in read_page(page).blocks]
PYTHON = [block for block in BLOCKS if block.language == "python"]
IMAGE_PAGE = (ROOT / "docs" / "image.md").read_text(encoding="utf-8")
COMMANDS_PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("block", PYTHON, ids=[block.place for block in PYTHON])
def test_a_block_of_python_compiles(block: Block) -> None:
    compile(block.text, block.place, "exec")


@pytest.mark.parametrize("name", ["README.md", "docs/image.md", "docs/kubetorch.md"])
def test_blocks_of_python_are_found(name: str) -> None:
    assert any(block.language == "python" for block in read_page(name).blocks)


OF_IMAGES = [block for block in PYTHON if block.place.startswith("docs/image.md") and "image = " in block.text]


@pytest.mark.parametrize("block", OF_IMAGES, ids=[block.place for block in OF_IMAGES])
def test_an_example_of_the_image_page_is_an_image(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian:bookworm\n")
    (tmp_path / "libs/shapes").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"kt": kt}
    file = tmp_path / "kimage.py"
    file.write_text(block.text)
    exec(compile(block.text, file, "exec"), names)
    assert isinstance(names["image"], kt.Image)
    assert names["image"].base is not None


def _commands(group: click.Group, above: str = "klock") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _commands(command, f"{above} {name}")
        elif command is not None:
            yield f"{above} {name}", command


@pytest.mark.parametrize(("name", "command"), list(_commands(klock)), ids=[name for name, _ in _commands(klock)])
def test_the_page_of_commands_has_every_option(name: str, command: click.Command) -> None:
    shown = COMMANDS_PAGE.partition("## Options")[2].partition("```text\n")[2].partition("```")[0].split("\n\n")
    entry = next(entry for entry in shown if re.search(rf"^{re.escape(name)}\b", entry, re.MULTILINE))
    options = [option for option in command.params if isinstance(option, click.Option)]
    options = [option for option in options if option.name not in ("quiet", "verbose") and not option.hidden]
    written = set(re.findall(r"(?<=[\[|])--?[a-z][a-z-]*", entry))
    assert written == {name for option in options for name in option.opts}


def test_the_page_of_commands_has_every_setting_and_every_code_of_a_finding() -> None:
    settings = [field.name.replace("_", "-") for field in fields(Settings) if field.name != "file"]
    assert not [name for name in [*settings, *(code.value for code in Code)] if f"`{name}`" not in COMMANDS_PAGE]


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
        shown.insert(by_keyword - sum(p.name == "self" for p in parameters), "*")
    assert written == ", ".join(shown)


DOCUMENTS = [*PAGES, "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/RESULTS.md"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_between_the_documents_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
        there = page.parent / target if target else page
        assert there.exists(), f"{name} links to {target}, which is not there"
        assert not anchor or anchor in _anchors(there), f"{name} links to {target}#{anchor}, which is not there"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_file_of_this_repository_that_a_document_names_is_there(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w/.-])(?:klock|tests|benchmarks|docs|demo|fixtures)/[\w/-]+\.(?:py|md)\b", text)
    assert not [path for path in named if not (ROOT / path).is_file()]


def _anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# -- console blocks


@pytest.mark.parametrize("name", NEED_NO_SANDBOX)
def test_a_page_s_commands_print_what_it_shows(name: str, tmp_path: Path) -> None:
    variables = {"HOME": str(tmp_path / "home"), "KLOCK_CACHE_DIR": str(tmp_path / "store"), "LANG": "C.UTF-8"}
    project = tmp_path / "project"
    project.mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    wrong = differences(read_page(name), project, {**variables, "PATH": path})
    assert not wrong, wrong


@pytest.mark.parametrize("block", BLOCKS, ids=[block.place for block in BLOCKS])
def test_a_command_is_shown_in_a_console_block_which_is_run_or_says_why_not(block: Block) -> None:
    if block.is_console:
        assert block.commands()
    else:
        assert not re.search(r"^\$ ", block.text, re.MULTILINE), "commands belong in a console block"


@pytest.mark.parametrize("name", PAGES)
def test_each_mark_is_right_above_a_console_block(name: str) -> None:
    marks = re.findall(r"^<!-- not run", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    assert len(marks) == sum(block.not_run is not None and block.is_console for block in read_page(name).blocks)
    assert not re.search(r"^ +\$ ", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)


DIGEST = "ab" * 32
OUTPUTS = {
    "the same line": ("1 finding", "1 finding", True),
    "another number": ("1 finding", "2 findings", False),
    "another word": ("agree", "agrees", False),
    "a line more": ("a", "a\nb", False),
    "a line less": ("a\nb", "a", False),
    "nothing, as shown": ("", "", True),
    "something instead of nothing": ("", "error", False),
    "an error is nothing that dots stand for at the end": ("...\nwritten", "error", False),
    "dots for lines": ("a\n...\nd", "a\nb\nc\nd", True),
    "dots for no line": ("a\n...\nd", "a\nd", True),
    "dots within a line": ("error: .../kimage.py is missing", "error: /tmp/x/kimage.py is missing", True),
    "dots within a line stay in it": ("a ... b", "a\n b", False),
    "a digest, shortened": ("sha256:7aa54b87a99e...", f"sha256:{DIGEST}", True),
    "a digest, whole": (f"fetched sha256:{DIGEST} twice", f"fetched sha256:{'0' * 64} twice", True),
    "a digest that is none": ("sha256:7aa54b87a99e...", "sha256:unknown", False),
    "another size": ("freed 12.3 MB", "freed 9 kB", True),
    "a size that is none": ("freed 12.3 MB", "freed nothing", False),
    "another number of what upstream has": ("make it of 110 packages", "make it of 99 packages", True),
    "a number of one": ("1 package", "2 packages", False),
    "another time": ("after 0.3 s", "after 12 s", True),
    "another version": ("jq (Debian) 1.6-2.1+deb12u3", "jq (Debian) 1.7~rc1", True),
    "a version that is none": ("humanize 4.17.0", "humanize four", False),
    "marks of regular expressions": ("a.b (c) [d] *", "a.b (c) [d] *", True),
    "a dot is a dot": ("a.b", "axb", False),
}


@pytest.mark.parametrize(("shown", "printed", "expected"), OUTPUTS.values(), ids=OUTPUTS)
def test_what_is_shown_stands_for_what_is_printed(shown: str, printed: str, expected: bool) -> None:
    assert same_output(shown.splitlines(), printed.splitlines()) is expected


def test_commands_of_a_console_block_may_have_several_lines() -> None:
    text = "$ one\n$ two \\\n  more\nprinted\n$ cat <<END\n> a\n> END\na\n"
    assert Block(language="console", text=text, place="page.md:10").commands() == [
        Command(text="one", output=(), place="page.md:11"),
        Command(text="two \\\n  more", output=("printed",), place="page.md:12"),
        Command(text="cat <<END\na\nEND", output=("a",), place="page.md:15"),
    ]


def test_a_page_is_typed_into_one_shell_and_its_screen_is_compared(tmp_path: Path) -> None:
    blocks = (
        Block(language="text", text="it's here\n", place="page.md:1", file="folder/file"),
        Block(language="console", text="$ cd folder\n$ cat file\nit's here\n", place="page.md:5"),
        Block(language="console", text="$ exit 1\n", place="page.md:11", not_run="ends the shell"),
        Block(language="console", text="$ cat file\nit is gone\n", place="page.md:20"),
        Block(language="console", text="$ printf 'half\\r\\033[2Kdone\\n'\ndone\n", place="page.md:30"),
        Block(language="console", text="$ printf 'half\\n\\r\\033[1A\\033[2Kdone\\n'\ndone\n", place="page.md:40"),
    )
    page = Page(name="page.md", blocks=blocks, begins_with=None)
    assert differences(page, tmp_path, {"PATH": os.environ["PATH"]}) == "page.md:21: $ cat file\n    it's here"


def test_a_console_block_begins_with_a_command() -> None:
    with pytest.raises(ValueError, match=r"page\.md:10: a console block begins with a command"):
        Block(language="console", text="printed\n", place="page.md:10").commands()
