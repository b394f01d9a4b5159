"""What stands on a command line, and what it means."""

import click
import pytest

from mapreduce_operator.cli.parameters import Duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1h30", 3630), ("30d", 2_592_000), ("0", 0)],
)
def test_a_duration(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", " ", "m", "1²", "\u0661", "1w", "-1", "1.5h", "1h\n", "1 h", "9" * 5000])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no duration, such as 90s, 10m or 1h30m"):
        Duration().convert(text, None, None)
