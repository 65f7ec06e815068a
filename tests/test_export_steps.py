"""Steps and settings as instructions of an exported Dockerfile."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from klock.digests import digest_of_bytes
from klock.errors import KlockError
from klock.export.kept_layer import write_kept_layer
from klock.export.settings import settings_to_write, write_settings
from klock.files.scan import tree_digest
from klock.lockfile.model import (
    CopiedFile,
    CopiedText,
    CopyLock,
    FileEntry,
    FilesLock,
    HealthLock,
    KeptLayer,
    LayerLock,
    OciBlob,
    OciLock,
    SettingsLock,
    StepLock,
    TargetLock,
)
from klock.pages.page import Form, Page
from klock.steps import kind_of
from klock.steps.at import StepAt
from klock.steps.exporting import Exporting
from klock.steps.files.export import write_file_step
from klock.store import Store
from klock.targets import Target
from tests.memory_workshop import memory_context

LAYER = LayerLock(digest="sha256:" + "0" * 64, files=0, size=0)
BLOB = OciBlob(digest="sha256:" + "0" * 64, size=1, media_type="x")
OF_BASE = SettingsLock(labels=(("of", "base"),), ports=("80/tcp",), entrypoint=("e",), on_build=("RUN x",))
DIGEST = digest_of_bytes(b"a")


def lock_over(reference: str, *steps: StepLock) -> TargetLock:
    base = OciLock(
        reference=reference, index_digest=None, manifest=BLOB, config=BLOB, layers=(), environment=(), settings=OF_BASE
    )
    base = replace(base, settings=replace(OF_BASE, on_build=())) if reference == "named" else base
    return TargetLock(target=Target(), base=base, interpreter=None, steps=steps, packages=())


def test_settings_of_a_base_that_from_does_not_name() -> None:
    step = SettingsLock(
        author="me 'x'",
        labels=(("a b", 'c"d'),),
        health=HealthLock(test=("CMD-SHELL", "a || b"), interval=5 * 10**9, start_interval=10**6, retries=3),
    )
    page = Page(form=Form.DOCKER)
    write_settings(page, settings_to_write(lock_over("named", step)))
    lines = [
        'LABEL "a b"="c\\"d"',
        "MAINTAINER me 'x'",
        "HEALTHCHECK --interval=5000000000ns --start-interval=1000000ns --retries=3 CMD a || b",
    ]
    assert page.lines == lines
    for reference in ("oci:./layout", "with-triggers"):
        page = Page(form=Form.DOCKER)
        settings = settings_to_write(lock_over(reference, step))
        write_settings(page, settings)
        assert page.lines == ['LABEL "of"="base"', lines[0], "EXPOSE 80/tcp", *lines[1:]]
        assert settings.entrypoint == ("e",)


@pytest.mark.parametrize("has_attributes", [False, True])
def test_a_kept_layer_needs_nothing_that_busybox_lacks(has_attributes: bool, tmp_path: Path) -> None:
    """Its tar knows neither --exclude nor --xattrs."""
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("etc/.wh.issue", "etc/it's", "f"):
            member = tarfile.TarInfo(name)
            member.pax_headers = {"SCHILY.xattr.user.a": "1"} if has_attributes and name == "f" else {}
            archive.addfile(member, io.BytesIO())
    context = memory_context(tmp_path)
    digest = context.store.add_bytes((tmp_path / "x.tar").read_bytes())
    page = Page(form=Form.DOCKER)
    write_kept_layer(page, KeptLayer(sha256=digest.removeprefix("sha256:"), size=1), folder="s", context=context)
    options = "--xattrs '--xattrs-include=*' " if has_attributes else ""
    _, *commands = page.text.replace(" \\\n", "").removesuffix("\n").split(" && ")
    assert commands == [
        "rm -rf -- /etc/issue",
        f"tar -C / {options}-xpf /.klock/s.tar",
        "rm -rf -- /etc/.wh.issue",
        "rm -r /.klock",
    ]


def test_an_owner_of_files(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("a")
    entries = (FileEntry(path="f", mode=0o644, size=1, digest=DIGEST),)
    step = FilesLock(
        source=".", destination="/d", entries=entries, tree=tree_digest(entries), layer=LAYER, owner="app:more"
    )
    page, store = Page(form=Form.DOCKER), Store(tmp_path / "store")
    write_file_step(page, step, folder="s", source=tmp_path, store=store)
    assert "COPY --chown=app:more s/files/ /d/" in page.lines
    with pytest.raises(KlockError, match="kubetorch does not read an owner of files"):
        write_file_step(Page(form=Form.KUBETORCH), step, folder="s", source=tmp_path, store=store)


def test_files_that_go_by_their_names_into_a_folder(tmp_path: Path) -> None:
    """Whether the destination is one only the builder knows."""
    single = CopiedFile(path="", mode=0o644, size=1, digest=DIGEST, source="src/a.txt")
    text = CopiedText(path="", content="x", name="conf")
    step = CopyLock(sources=("src/a.txt",), destination="/d", layer=LAYER, files=(single,))
    assert _exported(step, tmp_path) == ["COPY step-01/named/a.txt /d"]
    assert _exported(replace(step, texts=(text,)), tmp_path) == [
        "COPY step-01/named/a.txt /d/",
        "COPY step-01/named/conf /d/",
    ]


def _exported(step: CopyLock, folder: Path) -> list[str]:
    page = Page(form=Form.DOCKER)
    at: StepAt[CopyLock] = StepAt(lock=lock_over("named", step), position=0, source=folder)
    kind_of(step).export(at, Exporting(page=page, context=memory_context(folder), bundle=False))
    return [line for line in page.lines if line.startswith("COPY")]
