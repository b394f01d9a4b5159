"""What version 1 has written is read as version 1 read it; see golden/README.md."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec
import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.api import ItemState, Phase
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.checkpoint import (
    SCHEMA_VERSION,
    Checkpoint,
    DamagedError,
    JournalTooNewError,
    decode_checkpoint,
    digest,
)
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.names import Stage, StorageKeys
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.engine.loading import read_books
from tests.unit.core.golden import RUN, VARIANTS, expected, stored
from tests.unit.engine.parts import HandClock, Leader

KEYS: Final = StorageKeys(RUN)


@dataclass(frozen=True)
class Read:
    """A run that was read back."""

    journal: Journal
    books: Books
    ids: list[str]

    @property
    def head(self) -> Checkpoint:
        return self.journal.head


async def read(store: MemoryStore, leader: Leader | None = None) -> Read:
    """The run as somebody reads it who claims nothing, or as the operator of a leader takes it up."""
    journal = Journal(store, RUN, HandClock(), leader or Leader())
    books = await read_books(journal)
    assert books is not None
    if leader is not None:
        await journal.load()
    return Read(journal, books, await journal.plan.ids())


async def told(run: Read) -> dict[str, Any]:
    """All that is known of a run, in the words of the golden files."""
    head, books, ids = run.head, run.books, run.ids
    ledger = books.ledgers[Stage.MAP]
    done = list(ledger.in_state(ItemState.SUCCEEDED))
    records = await run.journal.last_records([ledger.key(position) for position in done])
    letters, tally = books.account.dead_letters, books.account.tally
    return {
        "phase": head.phase,
        "phaseReason": head.phase_reason,
        "phaseMessage": head.phase_message,
        "sequence": head.sequence,
        "snapshot": head.snapshot.sequence if head.snapshot else 0,
        "epoch": head.epoch,
        "startedAt": head.started_at,
        "turnedAt": head.turned_at,
        "committedAt": head.committed_at,
        "reason": head.reason,
        "breaker": head.breaker and plain(head.breaker),
        "duplicates": head.plan.duplicates,
        "items": {name: item_told(ledger[position]) for position, name in enumerate(ids)},
        "reduce": item_told(books.ledgers[Stage.REDUCE][0]),
        "results": {
            ids[position]: msgspec.json.decode(records[ledger.key(position)].outcome.result or b"") for position in done
        },
        "letters": [
            {
                "id": ids[entry.position],
                "state": state,
                "cause": entry.cause,
                "reason": entry.reason,
                "node": entry.node,
                "attempts": entry.attempts,
                "at": entry.at,
                "message": entry.message,
                "signature": signature,
            }
            for entry, state, signature in letters.all()
        ],
        "redrives": [
            {
                "accepted": plain(one.accepted),
                "succeeded": one.succeeded,
                "failed": one.failed,
                "endedAt": one.ended_at,
                "calledOff": one.called_off and plain(one.called_off),
            }
            for one in books.account.redrives.all()
        ],
        "tally": {
            "reasons": dict(tally.reasons),
            "retries": tally.retries,
            "failures": [
                {
                    "reason": one.reason,
                    "signature": one.signature,
                    "count": one.count,
                    "id": ids[one.position],
                    "message": one.message,
                }
                for one in tally.failures.values()
            ],
            "reduceResult": tally.reduce_result and msgspec.json.decode(tally.reduce_result),
            "reduceMessage": tally.reduce_message,
        },
        "past": {ids[position]: [one.dispatch for one in past] for position, past in sorted(books._past.items())},
        "announced": sorted(books.announced),
        "failedStarts": {revision: list(keys) for revision, keys in books.startup.failed.items()},
        "reduceAgain": books.reduce_again,
    }


def item_told(item: Item) -> dict[str, Any]:
    return {
        "state": item.state,
        "attempts": item.attempts,
        "interruptions": item.interruptions,
        "notBefore": item.not_before,
        "jobUid": item.job_uid,
        "reason": item.reason,
        "cause": item.cause,
        "excused": item.excused,
        "oomKills": item.oom_kills,
        "allowed": item.allowed,
        "redrive": item.redrive,
    }


def plain(value: msgspec.Struct) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


@pytest.mark.parametrize("variant", VARIANTS)
async def test_a_run_of_version_1_is_read_as_version_1_read_it(variant: str) -> None:
    run = await read(stored(variant))
    assert await told(run) == expected(variant)


@pytest.mark.parametrize("variant", ["running", "ended"])
async def test_its_whole_journal_tells_the_same_as_its_snapshot(variant: str) -> None:
    store = stored(variant)
    for key in [key for key in store.objects if "/snapshot-" in key]:
        del store.objects[key]

    run = await read(store)

    # Of a template that was corrected since, only the journal still tells that it could not start.
    assert await told(run) | {"failedStarts": {}} == expected(variant) | {"failedStarts": {}}


@pytest.mark.parametrize("variant", VARIANTS)
async def test_the_payloads_of_its_plan_are_there(variant: str) -> None:
    run = await read(stored(variant))
    for position, name in enumerate(run.ids):
        planned = await run.journal.plan.item(position)
        assert planned.id == name
        assert msgspec.json.decode(planned.payload)["id"] == name


@pytest.mark.parametrize("variant", VARIANTS)
async def test_whoever_takes_it_up_writes_its_head_in_the_present_version(variant: str) -> None:
    store = stored(variant)
    before = dict(store.objects)

    await read(store, Leader(7))

    assert {key for key in store.objects if store.objects[key] != before.get(key)} == {KEYS.head}
    head = decode_checkpoint(store.objects[KEYS.head], KEYS.head)
    assert (head.schema_version, head.epoch) == (SCHEMA_VERSION, 7)
    again = await read(store)
    assert await told(again) == expected(variant) | {"epoch": 7}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_version_1_did_not_know_has_a_meaning(variant: str) -> None:
    head = decode_checkpoint(stored(variant).objects[KEYS.head], KEYS.head)
    assert head.opened_at == head.started_at == expected(variant)["startedAt"]
    assert [shard.items for shard in head.plan.shards] == [len(expected(variant)["items"])]
    assert head.lineage is None
    assert head.recovered is None


def test_a_head_of_version_1_that_is_cut_off_is_damaged() -> None:
    data = stored("ended").objects[KEYS.head]
    for length in range(len(data) - 1):
        with pytest.raises(DamagedError, match=r"head.json is damaged"):
            decode_checkpoint(data[:length], KEYS.head)


def test_a_newer_version_is_refused_and_the_message_says_what_to_do() -> None:
    head = msgspec.json.decode(stored("ended").objects[KEYS.head]) | {"schemaVersion": SCHEMA_VERSION + 1}
    line = msgspec.json.encode(head)
    data = line + b"\n" + digest(line).encode() + b"\n"
    with pytest.raises(
        JournalTooNewError, match=r"has schema version 3, this operator knows 2: run the newer operator"
    ):
        decode_checkpoint(data, KEYS.head)


@pytest.mark.parametrize("version", [None, 0, -1, "1", 1.5])
def test_what_has_no_version_is_no_head(version: object) -> None:
    head = msgspec.json.decode(stored("ended").objects[KEYS.head])
    del head["schemaVersion"]
    data = msgspec.json.encode(head | ({} if version is None else {"schemaVersion": version})) + b"\n"
    with pytest.raises(DamagedError):
        decode_checkpoint(data, KEYS.head)


def test_the_golden_files_hold_every_state_and_phase_that_matters() -> None:
    found = [expected(variant) for variant in VARIANTS]
    states = {item["state"] for one in found for item in one["items"].values()}
    assert states == set(ItemState)
    assert {one["phase"] for one in found} == {Phase.MAP, Phase.FAILED, Phase.PARTIALLY_SUCCEEDED}
    assert {letter["state"] for one in found for letter in one["letters"]} == {
        "Open",
        "Claimed",
        "Resolved",
        "Archived",
    }
