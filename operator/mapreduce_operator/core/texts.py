"""Words for people."""

from typing import Any


def counted(number: int, noun: str) -> str:
    """A number of things: "1 pod", "2,000 pods"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def kind_of(value: Any) -> str:
    """What a JSON value is, for people."""
    return {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }.get(type(value), "null" if value is None else type(value).__name__)
