"""What stands on a command line, and what it means."""

from typing import Any

import click
import pytest

from mapreduce_operator.cli.parameters import Duration, ItemPatch, JsonValue, Setting


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


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_number_that_json_does_not_have_is_no_json(number: str) -> None:
    with pytest.raises(click.BadParameter, match="is no JSON"):
        JsonValue().convert(f'{{"amount": {number}}}', None, None)
    with pytest.raises(click.BadParameter, match="is not of the form ID=JSON"):
        ItemPatch().convert(f'a={{"amount": {number}}}', None, None)
    assert Setting().convert(f"amount={number}", None, None) == ("amount", number)


@pytest.mark.parametrize(
    ("text", "patch"),
    [
        ('a={"x": 1}', ("a", {"x": 1})),
        ('a=b=c={"x": "y={}"}', ("a=b=c", {"x": "y={}"})),
        ('a={"x": "="}', ("a", {"x": "="})),
        ('{"a": 1}={}', ('{"a": 1}', {})),
        ("a=={}", ("a=", {})),
    ],
)
def test_a_patch_of_an_item(text: str, patch: tuple[str, Any]) -> None:
    assert ItemPatch().convert(text, None, None) == patch


@pytest.mark.parametrize("text", ["", "a", "a=", "={}", "a=5", "a=[1]", "a={", "a=x={"])
def test_what_is_no_patch_of_an_item(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not of the form ID=JSON, with a JSON object"):
        ItemPatch().convert(text, None, None)
