"""Whole runs in the worst of worlds; `make soak` makes many more."""

import hashlib
import os
import subprocess
import sys

import pytest

from tests.simulation.chaos import chaos, replay

# Some stories are long: 40 s of a processor at rest, and several minutes of a busy one.
pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("seed", range(100))
def test_whatever_happens(seed: int) -> None:
    verdict = chaos(seed)
    assert verdict.violations == [], replay(seed)


def digest(seed: int) -> str:
    lines: list[str] = []
    chaos(seed, lines.append)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_a_seed_is_the_same_story_whatever_was_told_before() -> None:
    seeds = [3, 11, 17]
    assert {seed: digest(seed) for seed in seeds} == {seed: digest(seed) for seed in reversed(seeds)}


def test_a_seed_is_the_same_story_in_every_process() -> None:
    def told_with(hash_seed: str) -> str:
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-m", "tests.simulation.chaos", "--seed", "17", "--verbose"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout

    first, second = told_with("1"), told_with("2")
    assert len(first) > 10_000
    assert first == second
