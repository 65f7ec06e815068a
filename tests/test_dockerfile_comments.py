"""Comments for klock in a Dockerfile are read as an export writes them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.errors import KlockError
from klock.image.dockerfile.comments import options_in, options_text, words_of
from klock.lockfile.model import AptLock, ShellLock
from klock.pages.page import Form, Page
from klock.steps.kind import UNKNOWN_LAYER
from klock.steps.shell.export import write_shell_step

LINE = st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), min_size=1)
CONFUSING = st.lists(st.sampled_from([",", " ", "'", '"', "\\", "leave-out=", "force", "/a"]), min_size=1).map("".join)


@given(
    st.dictionaries(st.sampled_from(["leave-out", "private-urls"]), st.lists(LINE | CONFUSING, min_size=1)),
    st.booleans(),
)
def test_what_is_written_is_read(options: dict[str, list[str]], force: bool) -> None:
    written = {**options, **({"force": []} if force or not options else {})}
    found = dict(options_in(f"# klock: {options_text(written)}"))
    assert {name: words_of(value) for name, value in found.items()} == written


def exported(form: Form = Form.DOCKER, **options: Any) -> list[str]:
    page = Page(form=form)
    write_shell_step(page, ShellLock(command="make", layer=UNKNOWN_LAYER, **options), variables={})
    return page.lines


def test_a_command_comes_with_its_comment() -> None:
    plain = exported(shell=("/bin/sh", "-c"))
    assert plain == ['RUN ["/bin/sh", "-c", "make"]']
    lines = exported(
        shell=("/bin/sh", "-c"),
        leave_out=("/etc/ssh/ssh_host_*", "/My Files/**"),
        private_urls=("https://h/token*",),
        force=True,
        without_network=True,
    )
    assert lines == [
        "# klock: leave-out=/etc/ssh/ssh_host_* '/My Files/**', private-urls=https://h/token*, force",
        'RUN --network=none ["/bin/sh", "-c", "make"]',
    ]
    assert exported(leave_out=("/a\u2028b",))[0] == "# klock: leave-out='/a\u2028b'", "one line for docker"
    assert exported(Form.KUBETORCH, leave_out=("/a",)) == exported(Form.KUBETORCH), "it reads no comments"
    with pytest.raises(KlockError, match="a pattern has a line break"):
        exported(leave_out=("/a\nRUN b",))


def test_debian_packages_come_with_their_comment(tmp_path: Any) -> None:
    from klock.steps.apt.export import write_apt_step
    from tests.memory_workshop import memory_context

    page = Page(form=Form.DOCKER)
    step = AptLock(packages=("x",), debs=(), layer=UNKNOWN_LAYER, leave_out=("/etc/x",))
    write_apt_step(page, step, folder="step-01", context=memory_context(tmp_path))
    assert "# klock: leave-out=/etc/x" in page.lines
    assert page.lines[page.lines.index("# klock: leave-out=/etc/x") + 1].startswith("RUN ")
