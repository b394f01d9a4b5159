"""What the operator would plan of the items that stand in a manifest, told before anything is run."""

from typing import Final

from mapreduce_operator.api import Input
from mapreduce_operator.cli.apiserver import Body
from mapreduce_operator.cli.text import ITEM_CHARACTERS, one_line
from mapreduce_operator.core.plan import InputExpressions, Limits, plan_items
from mapreduce_operator.core.texts import counted

FIRST: Final = 5
"""So many ids are told."""


def plan_of(source: Input) -> Body | None:
    """Counts as in status.plan, and the first ids; None for items that stand elsewhere, which are not asked for.

    Raises InputError for what cannot be planned, and for expressions that are wrong wherever the items stand.
    """
    if source.items is None:
        InputExpressions(source)
        return None
    planned = plan_items(source.items, source, Limits())
    return {
        "items": len(planned.items),
        "read": planned.read,
        "filteredOut": planned.filtered_out,
        "duplicates": planned.duplicates,
        "outOfRange": planned.out_of_range,
        "firstIds": [item.id for item in planned.items[:FIRST]],
    }


def in_words(plan: Body) -> str:
    """How many items there are, of how many that were read, and what became of the others."""
    words = {"filteredOut": "filtered out", "duplicates": "left out as duplicates", "outOfRange": "out of range"}
    left_out = [f"{plan[name]:,} {what}" for name, what in words.items() if plan.get(name)]
    return counted(plan["items"], "item") + (f" of {plan['read']:,} read: {', '.join(left_out)}" if left_out else "")


def with_ids(plan: Body) -> str:
    """The same, with the ids of the first items."""
    ids = ", ".join(one_line(name, ITEM_CHARACTERS) for name in plan["firstIds"])
    return in_words(plan) + (f"; first {ids}" if ids else "")
