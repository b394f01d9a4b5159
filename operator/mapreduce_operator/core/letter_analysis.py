"""What dead letters have in common: failures that are the same, reasons, nodes and hours."""

from collections import Counter
from collections.abc import Iterable, Mapping
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


def analysis(letters: Iterable[Letter]) -> Analysis:
    """Goes through the letters once and keeps none of them."""
    groups: dict[str, Group] = {}
    others = 0
    reasons, causes, nodes, hours = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for letter in letters:
        reasons[letter.reason.value] += 1
        causes[letter.cause.value] += 1
        hours[letter.last_attempt_at.astimezone(UTC).strftime("%Y-%m-%dT%H:00:00Z")] += 1
        if letter.node:
            nodes[letter.node] += 1
        group = groups.get(letter.signature_id)
        if group is not None:
            groups[letter.signature_id] = _joined(group, letter)
        elif len(groups) < GROUPS:
            groups[letter.signature_id] = _group_of(letter)
        else:
            others += 1
    return Analysis(
        letters=reasons.total(),
        groups=tuple(sorted(groups.values(), key=lambda group: (-group.count, group.signature, group.signature_id))),
        others=others,
        reasons=_ranked(reasons),
        causes=_ranked(causes),
        nodes=_ranked(nodes),
        hours=dict(sorted(hours.items())),
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
