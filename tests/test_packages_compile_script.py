"""What compiles a tree's modules makes what py_compile makes: the same code, found by the same hash of the source."""

from __future__ import annotations

import json
import marshal
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

from klock.packages import compile_script

MODULES = {
    "/lib/plain.py": b"X = 1\n\ndef f(a, *, b=2):\n    return [a, b, 'text']\n",
    "/lib/deep/empty.py": b"",
    "/lib/latin.py": "# -*- coding: latin-1 -*-\nX = 'ä'\n".encode("latin-1"),
    "/lib/escape.py": b"X = '\\d'\nassert X\n",
    "/lib/docs.py": b'"""Doc."""\r\nif True:\r\n    Y = {1: (2, 3)}\r\n',
}
BROKEN = {"/lib/template.py": b"{% if x %}", "/lib/bytes.py": b"\xff\xfe"}


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_a_module_is_compiled_as_py_compile_does(tmp_path: Path) -> None:
    sources, out = tmp_path / "sources", tmp_path / "out"
    for path, source in {**MODULES, **BROKEN}.items():
        (sources / f"0{path}").parent.mkdir(parents=True, exist_ok=True)
        (sources / f"0{path}").write_bytes(source)
    (tmp_path / "request").write_text(json.dumps([["0", [*MODULES, *BROKEN]]]))
    script = compile_script.__file__
    command = [sys.executable, "-I", "-S", "-B", script, str(tmp_path / "request"), str(sources), str(out)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, bytes(len(MODULES) + len(BROKEN)), b"")
    made = sorted(path for path in out.rglob("*") if path.is_file())
    assert len(made) == len(MODULES), "what does not compile is left"
    mode = py_compile.PycInvalidationMode.CHECKED_HASH
    for path in MODULES:
        expected = tmp_path / "expected.pyc"
        py_compile.compile(f"{sources}/0{path}", cfile=str(expected), dfile=path, invalidation_mode=mode, doraise=True)
        (found,) = (each for each in made if each.name.startswith(f"{Path(path).stem}."))
        assert found.relative_to(out / "0").parent == Path(path[1:]).parent / "__pycache__"
        assert found.read_bytes()[:16] == expected.read_bytes()[:16]
        assert marshal.loads(found.read_bytes()[16:]) == marshal.loads(expected.read_bytes()[16:])
