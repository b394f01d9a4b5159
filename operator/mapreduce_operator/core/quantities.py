"""Amounts of memory as Kubernetes writes them, and the memory of an agent that was killed for needing more.

Reckoned in fractions: what is written in decimals is meant in decimals, and 1000Mi raised twice by 1.1 is 1210Mi.
"""

import re
from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from typing import Any, Final

_MI: Final = 1024**2

_UNITS: Final[Mapping[str, Fraction]] = {
    **{suffix: Fraction(1000) ** power for power, suffix in enumerate(["n", "u", "m", "", *"kMGTPE"], start=-3)},
    **{f"{prefix}i": Fraction(1024) ** power for power, prefix in enumerate("KMGTPE", start=1)},
}

# Kubernetes takes longer exponents too, but a number of so many digits is a slip, and costly to reckon with.
_QUANTITY: Final = re.compile(
    r"\+?(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?P<exponent>[eE][+-]?[0-9]{1,3})?)(?P<unit>[numkMGTPE]|[KMGTPE]i)?"
)


def parse_memory(text: str | float) -> int:
    """Whole bytes, rounded up, of an amount such as 512Mi, 1.5G, 1e9, 128974848000m or a plain number.

    Raises ValueError for what Kubernetes would not take as an amount of memory.
    """
    found = _QUANTITY.fullmatch(str(text).strip())
    if found is None or (found["exponent"] and found["unit"]):
        raise ValueError(f"{text!r} is not an amount of memory; write it as Kubernetes does, such as 512Mi or 1.5G")
    return ceil(Fraction(found["number"]) * _UNITS[found["unit"] or ""])


def raised_memory(resources: Mapping[str, Any], factor: float, maximum: str, times: int) -> dict[str, Any]:
    """A container's resources with `factor` times the memory, so many times over, for requests and limits alike.

    What is raised is whole Mi, and the maximum at most. What is above that already stays as it is, like what is absent,
    and like what is malformed, for the API server to refuse in its own words. Raises ValueError for a malformed
    maximum.
    """
    growth, most = Fraction(str(factor)) ** times, parse_memory(maximum)
    raised = dict(resources)
    for section in ("requests", "limits"):
        amounts = resources.get(section)
        if times == 0 or not isinstance(amounts, Mapping) or "memory" not in amounts:
            continue
        try:
            written = parse_memory(amounts["memory"])
        except ValueError:
            continue
        if written < most:
            mebibytes = ceil(written * growth / _MI)
            raised[section] = {**amounts, "memory": maximum if mebibytes * _MI > most else f"{mebibytes}Mi"}
    return raised
