"""Which image files give the same image while what they read is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from klock.image.deterministic import is_deterministic

FIXTURES = Path(__file__).parents[1] / "fixtures/examples"
HEAD = "import klock as kt\nimage = kt.images.Python312()\n"

DETERMINISTIC = {
    "a chain of calls": 'image.pip_install(["numpy>=1"]).rsync("./src", "/app", contents=True).run_bash("make")',
    "variables": 'import os\nuser = os.environ["USER"]\nimage.set_env_vars({"A": f"{user}", "B": os.getenv("B", "")})',
    "variables by their own name": 'from os import environ\nimage.set_env_vars({"A": environ.get("A", "1")})',
    "a loop": 'for name in sorted(["a", "b"]):\n    image.apt_install([name])',
    "a function": 'def more(x):\n    return [f"{name}>=1" for name in x]\nimage.pip_install(more(["a"]))',
    "text": 'image.pip_install("a b".split())\nimage.run_bash(" && ".join(["a", "b"]).strip())',
    "a file that it names": "from pathlib import Path\n"
    'image.pip_install((Path(__file__).parent / "requirements.txt").read_text().splitlines())',
    "a file opened": 'with open("x") as file:\n    image.pip_install(file.read().split())',
    "a table read": 'import tomllib\nwith open("x", "rb") as f:\n    image.pip_install(tomllib.load(f)["a"])',
    "paths as text": 'import os\nimage.rsync(os.path.join(os.path.dirname(__file__), "src"))',
    "another builder": 'from klock import Image, images\nother = Image().from_docker("x:1")\nthird = images.ray("2.1")',
}

NOT_DETERMINISTIC = {
    "the time": 'import time\nimage.run_bash(f"echo {time.time()}")',
    "the time by its own name": 'from time import time as str\nimage.run_bash(f"echo {str()}")',
    "chance": "import random",
    "chance of the system": "import os\nos.urandom(1)",
    "what is there": 'import os\nif os.path.exists("x"):\n    image.run_bash("x")',
    "what is there, by pathlib": 'from pathlib import Path\nif Path("x").exists():\n    image.run_bash("x")',
    "what is in a folder": 'from pathlib import Path\nimage.pip_install([str(p) for p in Path().glob("*.whl")])',
    "where a link leads": "from pathlib import Path\nimage.rsync(str(Path('x').resolve()))",
    "what fails": 'try:\n    image.sync_package("./x")\nexcept ValueError:\n    image.run_bash("x")',
    "a command": 'import subprocess\nsubprocess.run(["date"])',
    "a command by os": "import os\nos.system('date')",
    "a module of the project": "from settings import requirements",
    "a module beside it": "from . import settings",
    "any name": "from os import *\nimage.run_bash(str(getpid()))",
    "another package": "import kubetorch",
    "code from text": 'eval("1")',
    "an import from text": '__import__("time")',
    "an attribute by text": 'getattr(image, "x")',
    "an identity": "image.run_bash(str(id(image)))",
    "the order of a set": 'image.pip_install([x for x in {"a", "b"}])',
    "a set by its name": 'image.pip_install(list(set(["a"])))',
    "inner parts": "image._steps.clear()",
    "no Python": "image = = 1",
}


@pytest.mark.parametrize("text", DETERMINISTIC.values(), ids=DETERMINISTIC)
def test_deterministic(text: str) -> None:
    assert is_deterministic((HEAD + text).encode())


@pytest.mark.parametrize("text", NOT_DETERMINISTIC.values(), ids=NOT_DETERMINISTIC)
def test_not_deterministic(text: str) -> None:
    assert not is_deterministic((HEAD + text).encode())


@pytest.mark.parametrize("example", sorted(FIXTURES.glob("*/kimage.py")), ids=lambda path: path.parent.name)
def test_the_reference_s_examples_are_deterministic(example: Path) -> None:
    assert is_deterministic(example.read_bytes())
