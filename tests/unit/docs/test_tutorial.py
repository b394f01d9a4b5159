"""How the tutorial is compared with what its commands print."""

import re

import pytest

from tests.e2e.tutorial import Step, steps


def test_the_tutorial_has_commands() -> None:
    assert len(list(steps())) >= 25


@pytest.mark.parametrize(
    ("shown", "printed", "fits"),
    [
        (["NAME   AGE", "words  4s"], "NAME    AGE\nwords   1m12s\n", True),
        (["NAME   AGE", "words  4s"], "NAME    AGE\nwords2  4s\n", False),
        (["a ... c"], "a b c\n", True),
        (["a ... c"], "a b d\n", False),
        (["a", "...", "c"], "a\nb\nb\nc\n", True),
        (["a", "...", "c"], "a\nc\n", True),
        (["a", "c"], "a\nb\nc\n", False),
        (["at 2026-11-21T10:00:00Z"], "at 2027-01-02T11:22:33.5Z\n", True),
        (["0 failed"], "1 failed\n", False),
    ],
)
def test_what_counts_as_the_same(shown: list[str], printed: str, fits: bool) -> None:
    assert bool(re.fullmatch(Step(1, "", shown).pattern(), printed)) is fits
