"""What dead letters have in common: failures that are the same, reasons, nodes and hours."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC
from typing import Final

import msgspec

from mapreduce_operator.api import Reason
from mapreduce_operator.core.dead_letters import SAMPLES
from mapreduce_operator.core.letters import Letter, Moment

GROUPS: Final = 1000
"""How many different failures are told apart; later ones are only counted."""


class Group(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Letters whose last failure was the same."""

    signature_id: str
    signature: str
    reason: Reason
    count: int
    first_time: Moment
    """When the first of them was given up."""
    last_time: Moment
    samples: tuple[str, ...]
    """Ids of the first items."""


class Analysis(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Counts of letters. Those by name begin with the most frequent."""

    letters: int
    groups: tuple[Group, ...]
    """Largest first."""
    others: int
    """Letters that are in none of the groups."""
    reasons: Mapping[str, int]
    causes: Mapping[str, int]
    nodes: Mapping[str, int]
    """By the node of the last dispatch, where there was one."""
    hours: Mapping[str, int]
    """By the hour, in UTC, in which they were given up, in order."""


class Comparison:
    """Takes letters one after another and keeps none of them."""

    def __init__(self) -> None:
        self._groups: Final[dict[str, Group]] = {}
        self._others = 0
        self._reasons: Final = Counter[str]()
        self._causes: Final = Counter[str]()
        self._nodes: Final = Counter[str]()
        self._hours: Final = Counter[str]()

    def add(self, letter: Letter) -> None:
        self._reasons[letter.reason.value] += 1
        self._causes[letter.cause.value] += 1
        self._hours[letter.last_attempt_at.astimezone(UTC).strftime("%Y-%m-%dT%H:00:00Z")] += 1
        if letter.node:
            self._nodes[letter.node] += 1
        group = self._groups.get(letter.signature_id)
        if group is not None:
            self._groups[letter.signature_id] = _joined(group, letter)
        elif len(self._groups) < GROUPS:
            self._groups[letter.signature_id] = _group_of(letter)
        else:
            self._others += 1

    def analysis(self) -> Analysis:
        """What those that were taken so far have in common."""
        groups = self._groups.values()
        return Analysis(
            letters=self._reasons.total(),
            groups=tuple(sorted(groups, key=lambda group: (-group.count, group.signature, group.signature_id))),
            others=self._others,
            reasons=_ranked(self._reasons),
            causes=_ranked(self._causes),
            nodes=_ranked(self._nodes),
            hours=dict(sorted(self._hours.items())),
        )


def _group_of(letter: Letter) -> Group:
    return Group(
        signature_id=letter.signature_id,
        signature=letter.signature,
        reason=letter.reason,
        count=1,
        first_time=letter.last_attempt_at,
        last_time=letter.last_attempt_at,
        samples=(letter.id,),
    )


def _joined(group: Group, letter: Letter) -> Group:
    return msgspec.structs.replace(
        group,
        count=group.count + 1,
        first_time=min(group.first_time, letter.last_attempt_at),
        last_time=max(group.last_time, letter.last_attempt_at),
        samples=(*group.samples, letter.id)[:SAMPLES],
    )


def _ranked(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))
