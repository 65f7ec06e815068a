"""klock's own lockfile: the image in the repository's root is what was locked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_committed_lockfile_is_true_to_the_committed_image(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "klock", "check"],
        cwd=ROOT,
        env={"KLOCK_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    assert not list(tmp_path.glob("*/*/*.whl")), "a check fetches nothing"
