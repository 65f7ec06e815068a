"""`add_python`: a Python for a base without one, from python-build-standalone: one archive, locked by URL and hash.

Its files lie at /opt/python, and PATH begins with its programs from there on. Nothing of it runs, so it can be locked
for any platform.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from klock.digests import Digest, digest_of_bytes
from klock.findings import Finding
from klock.image.steps import AddPython
from klock.lockfile.model import LockedVariable, PythonLock
from klock.steps.at import StepAt
from klock.steps.kind import UNKNOWN_LAYER, Fetched, Input, Kind, OpenBelow
from klock.steps.parts import Part, Sort
from klock.steps.staleness import changed

if TYPE_CHECKING:
    from pathlib import Path

    from klock.asking import Asker
    from klock.files.placed import PlacedFile
    from klock.steps.context import Context
    from klock.steps.drafting import Drafting
    from klock.steps.exporting import Exporting
    from klock.steps.locking import Locking
    from klock.workshop.protocol import Workspace

__all__ = ["KIND"]

_FOLDER: Final = "/opt"
_PREFIX: Final = "/opt/python"
_PROGRAMS: Final = f"{_PREFIX}/bin"
_UNKNOWN: Final = "0" * 64


class PythonKind(Kind[AddPython, PythonLock]):
    method = "add_python"
    fetches = True

    def describe(self, step: PythonLock) -> str:
        return f"add_python {step.version}" + (f" ({step.found})" if step.found else "")

    def draft(self, step: AddPython, drafting: Drafting) -> PythonLock:
        path = f"{_PROGRAMS}:{drafting.seen.get('PATH', '')}".rstrip(":")
        drafting.variables["PATH"] = drafting.seen["PATH"] = path
        variable = LockedVariable(name="PATH", written=path, value=path)
        return PythonLock(version=step.version, sha256=_UNKNOWN, layer=UNKNOWN_LAYER, variables=(variable,))

    def as_draft(self, step: PythonLock) -> PythonLock:
        return replace(step, url="", found="", size=0, sha256=_UNKNOWN, layer=UNKNOWN_LAYER)

    def changes(self, before: PythonLock, after: PythonLock) -> Iterator[Finding]:
        if before.version != after.version:
            yield changed("add_python", before.version, after.version)
        if before.variables != after.variables:
            yield changed("PATH", before.variables[0].value, after.variables[0].value)

    def parts(self, at: StepAt[PythonLock]) -> Iterator[Part]:
        step = at.step
        yield Part(sort=Sort.PYTHON, name=_PROGRAMS, value=step.found, identity=step.sha256, size=step.size)

    # -- locking

    def complete(self, draft: PythonLock, locking: Locking) -> PythonLock:
        from klock.steps.python.locking import lock_python

        return lock_python(draft, locking)

    def repeats(self, at: StepAt[PythonLock]) -> bool:
        return True

    def moved(self, at: StepAt[PythonLock], context: Context, asker: Asker) -> Iterator[Finding]:
        from klock.steps.web import moved_files

        yield from moved_files([(at.step.url, at.step.size, at.step.sha256)], at, context, asker)

    # -- replay

    def content(self, at: StepAt[PythonLock], *, python_path: str | None, install_cmd: str | None) -> list[Any]:
        return ["add_python", at.step.sha256, _PREFIX]

    def fetched(self, at: StepAt[PythonLock]) -> Iterator[Fetched]:
        yield at.step

    def inputs_to_run(self, at: StepAt[PythonLock]) -> Iterator[Input]:
        yield Input(digest=f"sha256:{at.step.sha256}", size=at.step.size, name=at.step.url)

    def fetch(self, at: StepAt[PythonLock], context: Context) -> None:
        from klock.steps.python.locking import fetch_archive

        fetch_archive(at.step, context)

    def bring_in(
        self, at: StepAt[PythonLock], wanted: Set[Digest], context: Context, *, open_below: OpenBelow
    ) -> Iterator[Callable[[], None]]:
        yield functools.partial(self.fetch, at, context)

    def perform(self, at: StepAt[PythonLock], workspace: Workspace, context: Context) -> None:
        from klock.workshop.scratch import scratch_folder

        with scratch_folder(context.store) as folder:
            files = self._files(at, folder, context)
            if not any(file.path == "python/bin/python3" for file in files):
                raise at.failed(f": {at.step.url} has no python/bin/python3", hint="check the mirror that it came from")
            workspace.place(files, _FOLDER)

    def _files(self, at: StepAt[PythonLock], folder: Path, context: Context) -> list[PlacedFile]:
        """What belongs below /opt; new bytes are in `folder`. Raises FetchError, HashMismatch."""
        from klock.steps.python.contents import corrected, files_in, is_corrected

        self.fetch(at, context)
        archive = context.store.blob_path(f"sha256:{at.step.sha256}")
        files = list(files_in(archive, folder, name=at.step.url))
        for number, file in enumerate(files):
            if file.source is not None and is_corrected(file.path):
                content = corrected(file.path, file.source.read_bytes(), prefix=_PREFIX)
                source = folder / f"corrected-{number}"
                source.write_bytes(content)
                files[number] = replace(file, source=source, digest=digest_of_bytes(content))
        return files

    def texts(self, step: PythonLock) -> Sequence[str]:
        return (step.url,)

    # -- export

    def export(self, at: StepAt[PythonLock], exporting: Exporting) -> None:
        from klock.pages.build_context import ContextFile
        from klock.steps.python.contents import is_corrected
        from klock.workshop.scratch import scratch_folder

        page, step, store = exporting.page, at.step, exporting.context.store
        page.refuse_for_kubetorch("a Python of add_python")
        with scratch_folder(store) as folder:
            texts = [
                (file.path, file.source.read_bytes())
                for file in self._files(at, folder, exporting.context)
                if file.source is not None and is_corrected(file.path)
            ]
        digest = f"sha256:{step.sha256}"
        name = f"{at.folder}/python.tar.gz"
        page.become("")
        page.files.append(ContextFile(path=name, source=store.blob_path(digest), digest=digest))
        page.add(f"ADD {name} {_FOLDER}/")
        for path, content in texts:
            page.copy_file(ContextFile(path=f"{at.folder}/{path}", content=content), f"{_FOLDER}/{path}")
        page.env("PATH", step.variables[0].value)


KIND = PythonKind()
