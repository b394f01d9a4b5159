"""Shows that every field of the API has an effect that a test would miss: `python -m tests.fields`, or `make fields`.

For each field the test that fields.yaml names is run as if the operator did not know the field, and has to fail.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.fields.table import TABLE, Entry, entries

PROJECT: Final = Path(__file__).resolve().parents[2]
SECONDS = 120
"""For one test. Most of those that fail do so by waiting for what does not come."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 when the tests of all fields fail without them, and only then."""
    parser = argparse.ArgumentParser(prog="python -m tests.fields", description=__doc__)
    parser.add_argument("--table", type=Path, default=TABLE, help="which test each field has")
    parser.add_argument("--field", action="append", help="such as spec.map.maxParallel; all, if none is given")
    given = parser.parse_args(arguments)
    chosen = [one for one in entries(given.table) if not given.field or one.path in given.field]
    if given.field and (unknown := set(given.field) - {one.path for one in chosen}):
        parser.error(f"no such field: {', '.join(sorted(unknown))}")
    tried = [one for one in chosen if not one.admission]
    if not _passes(sorted({one.test for one in tried})):
        sys.exit("the tests do not pass as they are: run them by themselves")
    missed = 0
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for one, passed in zip(tried, threads.map(_passes_without, tried), strict=True):
            if passed:
                missed += 1
                print(f"{one.kind} {one.path}: {one.test} does not notice that it is ignored", flush=True)  # noqa: T201
    print(f"{len(tried) - missed} of {len(tried)} fields have a test that fails without them")  # noqa: T201
    print(f"for the API server alone, whose answer is tested: {len(chosen) - len(tried)}")  # noqa: T201
    return 1 if missed else 0


def _passes_without(entry: Entry) -> bool:
    plugin = ["-p", "tests.fields.ignored", "--ignored-field", f"{entry.kind} {entry.path}", *entry.instead_option]
    return _passes([entry.test], plugin)


def _passes(tests: Iterable[str], options: Iterable[str] = ()) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--timeout={SECONDS}"]
    done = subprocess.run([*command, *options, *tests], cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode not in {0, 1}:
        sys.exit(f"{' '.join(tests)} cannot be run:\n{done.stdout}{done.stderr}")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
