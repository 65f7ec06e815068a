"""Prints the readings that the image's shell step has sorted."""

import json
import os
import platform
import sys
from pathlib import Path

import humanize
import tabulate

home = Path(os.environ["APP_HOME"])
readings = json.loads((home / "sorted.json").read_text())["readings"]
size = sum(file.stat().st_size for file in home.rglob("*") if file.is_file())

print(tabulate.tabulate([(r["place"], r["celsius"]) for r in readings], headers=["place", "°C"]))
print()
print(f"Python {platform.python_version()} at {sys.executable}, {humanize.naturalsize(size)} in {home}")
