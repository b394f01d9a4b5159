"""The words of the API are spelt once, and the way Kubernetes spells its own."""

import inspect
import re
from enum import StrEnum
from typing import get_args

from mapreduce_operator import api
from mapreduce_operator.api import ItemCounts, ItemState, Reason, StatePositions, enums
from mapreduce_operator.api.work import AttemptReason

ALL = [value for value in vars(enums).values() if inspect.isclass(value) and issubclass(value, StrEnum)]


def test_every_enumeration_is_public() -> None:
    assert {enumeration.__name__ for enumeration in ALL} - {"StrEnum"} <= set(api.__all__)


def test_no_word_stands_twice_in_an_enumeration() -> None:
    for enumeration in ALL:
        assert len(enumeration.__members__) == len(set(enumeration.__members__.values()))


def test_words_are_camel_case() -> None:
    for enumeration in ALL:
        assert all(re.fullmatch("[A-Z][A-Za-z]+", word) for word in enumeration)


def test_members_are_named_like_their_words() -> None:
    for enumeration in ALL:
        for name, word in enumeration.__members__.items():
            assert name.replace("_", "") == word.upper()


def test_counts_and_positions_have_a_field_for_every_state_of_an_item() -> None:
    states = {state.name.lower() for state in ItemState}

    assert set(StatePositions.model_fields) == states
    assert set(ItemCounts.model_fields) == states | {"total"}


def test_retry_rules_speak_of_failures_and_not_of_interruptions() -> None:
    assert set(get_args(AttemptReason)) == {
        Reason.ERROR,
        Reason.KILLED,
        Reason.OOM_KILLED,
        Reason.DEADLINE_EXCEEDED,
        Reason.STORAGE_EXCEEDED,
        Reason.INIT_FAILED,
        Reason.RESULT_MISSING,
        Reason.RESULT_INVALID,
    }
