"""Where the programs are that tests run."""

import os
import shutil
from pathlib import Path


def program(name: str) -> str:
    """Path of a program: that of the machine, or the one that dev/tools.sh put into the project's cache."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("MAPREDUCE_CACHE") or caches / "mapreduce-operator")
    found = shutil.which(name) or shutil.which(name, path=cache / "bin")
    assert found is not None, f"{name} is missing: run dev/tools.sh"
    return found
