"""Files that are made from the models and committed, so that charts and people have them."""

import difflib
import sys


def bring_up_to_date(path: str, wanted: str, *, check: bool) -> bool:
    """Write a file; or, with `check`, write nothing and print how it differs.

    Returns whether the file is as it should be.
    """
    if not check:
        _write(path, wanted)
        return True
    found = _read(path)
    sys.stdout.writelines(
        difflib.unified_diff(found.splitlines(True), wanted.splitlines(True), path, "what the models say")
    )
    return found == wanted


# Without pathlib, which the contract of the layers keeps out of this package.
def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            return file.read()
    except FileNotFoundError:
        return ""
