"""Words for people."""


def counted(number: int, noun: str) -> str:
    """A number of things: "1 pod", "2,000 pods"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
