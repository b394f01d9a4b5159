"""What a Redrive takes and what not, said in words; taken once, whatever answer gets lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mapreduce_operator.api import LetterState
from mapreduce_operator.core.names import Stage
from mapreduce_operator.engine.redriving import Redriving
from mapreduce_operator.ports import ClusterError, ClusterErrorReason
from tests.unit.engine.dead import KEYS, TEMPLATE, Office, key_of, map_reduce_job, message_of, reason_of

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

UNAVAILABLE = ClusterError(ClusterErrorReason.UNAVAILABLE, "connection refused")
INVALID = ClusterError(ClusterErrorReason.INVALID, "no such image pull policy")


@contextlib.asynccontextmanager
async def answering(office: Office, *, commits: bool = True) -> AsyncIterator[Redriving]:
    """Answers Redrives, and makes what they claim durable."""

    async def tell() -> None:
        """Nobody is there who would keep the queue."""

    redriving = Redriving(
        office.world,
        office.state,
        office.letters,
        office.ids,
        item=office.journal.plan.item,
        wake=office.woken.set,
        tell=tell,
    )

    async def commit() -> None:
        while True:
            await office.woken.wait()
            office.woken.clear()
            if office.state.unsaved.urgent:
                await office.commit()

    tasks = [asyncio.create_task(redriving.serve()), *([asyncio.create_task(commit())] if commits else [])]
    redriving.look()
    try:
        yield redriving
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def answered(office: Office, name: str = "again") -> dict[str, Any]:
    """The status of a Redrive after it was answered for some seconds."""
    async with answering(office):
        await asyncio.sleep(5)
    return office.told(name)


async def office_with(*letters: str, done: tuple[str, ...] = ("done",), **spec: Any) -> Office:
    """With a queue that its run knows."""
    office = Office()
    await office.with_letters(*letters, done=done, **spec)
    office.queue()
    return office


def claimed(office: Office) -> list[str]:
    found = office.state.dead_letters
    return [name for number, name in enumerate(office.ids) if found.state(number) is LetterState.CLAIMED]


def skipped(status: dict[str, Any]) -> dict[str, str]:
    return {one["itemId"]: one["reason"] for one in status["skippedLetters"]}


# ------------------------------------------------------------------------------------------------------- what it takes


async def test_all_letters_are_taken_that_are_open() -> None:
    office = await office_with("MIT", "GPL-3")
    office.redrive()

    status = await answered(office)

    assert claimed(office) == ["MIT", "GPL-3"]
    assert (status["phase"], status["selected"], status["remaining"], status["skipped"]) == ("Running", 2, 2, 0)
    assert reason_of(status, "Accepted") == ("True", "Accepted")


async def test_a_redrive_is_complete_when_the_end_of_its_items_is_durable() -> None:
    office = await office_with("MIT", "GPL-3")
    office.redrive()
    async with answering(office) as redriving:
        await asyncio.sleep(5)
        office.end("MIT", succeeds=True)
        office.end("GPL-3", "again")
        await asyncio.sleep(5)
        assert office.told()["phase"] == "Running"
        assert redriving.pending
        await office.commit()
        await asyncio.sleep(5)

        status = office.told()

        assert (status["phase"], status["succeeded"], status["failed"], status["remaining"]) == ("Complete", 1, 1, 0)
        assert reason_of(status, "Complete") == ("True", "SomeItemsFailed")
        assert not redriving.pending
        assert [one.redrive for one in office.body("GPL-3").history] == ["", "again"]


async def test_ids_that_are_unknown_done_or_taken_are_named_with_the_reason() -> None:
    office = await office_with("MIT", "GPL-3")
    hostile = "../../etc/passwd"
    long = "ü" * 4096
    office.redrive("first", {"ids": ["MIT"]})
    office.redrive("second", {"ids": ["MIT", "done", "nobody", "nobody", hostile, long, "GPL-3", "GPL-3"]})

    status = await answered(office, "second")

    assert (status["selected"], status["skipped"]) == (1, 5)
    assert skipped(status) == {
        "MIT": "another Redrive has taken it",
        "done": "it is in no letter: the item is Succeeded",
        "nobody": "the job has no item with this id",
        hostile: "the job has no item with this id",
        long[:252] + "…": "the job has no item with this id",
    }
    assert office.told("first")["selected"] == 1


async def test_a_redrive_that_finds_nothing_is_complete_and_names_what_it_was_asked_for() -> None:
    office = await office_with("MIT")
    office.redrive(selection={"ids": ["nobody"]})

    status = await answered(office)

    assert (status["phase"], status["selected"], status["skipped"]) == ("Complete", 0, 1)
    assert reason_of(status, "Complete") == ("True", "NothingSelected")
    assert claimed(office) == []


async def test_a_filter_takes_what_it_is_true_for_and_passes_over_the_rest_in_silence() -> None:
    office = await office_with("MIT", "GPL-3")
    office.redrive(selection={"filter": 'item.name == "MIT" && letter.message.contains("boom")'})

    status = await answered(office)

    assert claimed(office) == ["MIT"]
    assert (status["selected"], status["skipped"]) == (1, 0)


@pytest.mark.parametrize(
    "wrong", ["letter.", "letter.no == 1", "item.name", "item.size < 5", "letter.attempts == 'x' || 1 / 0 == 1"]
)
async def test_a_wrong_filter_takes_nothing_and_says_so(wrong: str) -> None:
    office = await office_with("MIT", "GPL-3")
    office.redrive(selection={"filter": wrong})

    status = await answered(office)

    assert (status["phase"], status["selected"]) == ("Failed", 0)
    assert reason_of(status, "Failed") == ("True", "InvalidFilter")
    assert message_of(status, "Failed").startswith("spec.selection.filter: ")
    assert message_of(status, "Failed").endswith("Nothing was taken")
    assert claimed(office) == []


async def test_what_no_rule_allows_needs_force_or_a_patch() -> None:
    hopeless = '{"error": {"message": "no such file", "retryable": false}}'
    for more, taken in (({}, []), ({"force": True}, ["MIT"]), ({"payloadPatch": {"n": 5}}, ["MIT"])):
        office = Office()
        await office.open("MIT", "done")
        office.end("MIT", hopeless)
        office.end("done", succeeds=True)
        await office.commit()
        office.queue()
        office.redrive(**more)

        status = await answered(office)

        assert claimed(office) == taken
        if not taken:
            assert "give a patch, or force: true" in skipped(status)["MIT"]


async def test_a_rule_of_the_queue_keeps_letters_with_its_note() -> None:
    office = Office()
    await office.with_letters("MIT", "GPL-3")
    rule = {"filter": 'letter.id == "MIT"', "eligible": False, "note": "ask legal first"}
    office.queue(eligibility=[rule])
    office.redrive()

    status = await answered(office)

    assert claimed(office) == ["GPL-3"]
    assert skipped(status) == {"MIT": "ask legal first"}


async def test_a_wrong_rule_of_the_queue_lets_nothing_be_taken() -> None:
    office = Office()
    await office.with_letters("MIT")
    office.queue(eligibility=[{"filter": "letter.no == 1", "eligible": True}])
    office.redrive()

    status = await answered(office)

    assert reason_of(status, "Failed") == ("True", "InvalidEligibility")
    assert claimed(office) == []


@pytest.mark.parametrize(
    ("selection", "force", "taken", "named"),
    [
        ({"all": True}, False, ["GPL-3"], 0),
        ({"all": True}, True, ["MIT", "GPL-3"], 0),
        ({"ids": ["MIT"]}, False, [], 1),
        ({"ids": ["MIT"]}, True, ["MIT"], 0),
        ({"filter": "true"}, False, ["GPL-3"], 1),
        ({"filter": 'letter.state == "Archived"'}, True, ["MIT"], 0),
    ],
)
async def test_what_was_set_aside_is_taken_with_force_alone(
    selection: dict[str, Any], force: bool, taken: list[str], named: int
) -> None:
    office = await office_with("MIT", "GPL-3", deadLetter={"capacity": 1, "onFull": "Archive"})
    await office.commit()
    office.redrive(selection=selection, force=force)

    status = await answered(office)

    assert claimed(office) == taken
    assert status["skipped"] == named
    assert named == 0 or skipped(status)["MIT"].startswith("it is archived")


async def test_letters_whose_bodies_are_damaged_or_missing_are_named_and_others_are_taken() -> None:
    office = await office_with("MIT", "GPL-3", "BSD")
    office.store.objects[KEYS.letter(key_of("MIT"))] = b"half"
    del office.store.objects[KEYS.letter(key_of("GPL-3"))]
    office.redrive()

    status = await answered(office)

    assert claimed(office) == ["BSD"]
    assert "is damaged" in skipped(status)["MIT"]
    assert skipped(status)["GPL-3"] == "its body is not in storage any more"


async def test_a_patch_that_makes_an_item_too_large_leaves_it_where_it_is() -> None:
    office = await office_with("MIT")
    office.redrive(payloadPatch={"n": "x" * 300})

    status = await answered(office)

    assert claimed(office) == []
    assert "the limit is 200" in skipped(status)["MIT"]


# ---------------------------------------------------------------------------------------------------------- how it runs


async def test_attempts_are_those_that_are_granted_or_as_many_as_the_job_grants() -> None:
    job = {"template": TEMPLATE, "retry": {"maxAttempts": 4}}
    for asked, allowed in ((None, 5), (2, 3)):
        office = await office_with("MIT")
        office.state.respec(
            office.state.spec.model_copy(update={"map": map_reduce_job([], map=job).spec.map}), office.clock.now()
        )
        office.redrive(attempts=asked)

        await answered(office)

        assert office.item("MIT").allowed == allowed


@pytest.mark.parametrize(
    ("delay", "waits"),
    [
        ({}, [0, 0]),
        ({"strategy": "Immediate", "seconds": 50}, [0, 0]),
        ({"strategy": "Fixed", "seconds": 50}, [50, 50]),
        ({"strategy": "Exponential", "seconds": 50}, [50, 100]),
        ({"strategy": "Exponential", "seconds": 50, "maxSeconds": 70}, [50, 70]),
    ],
)
async def test_items_wait_as_long_as_the_redrive_says(delay: dict[str, Any], waits: list[int]) -> None:
    office = await office_with("MIT")
    found = []
    for number, _ in enumerate(waits):
        office.redrive(f"again-{number}", delay=delay)
        await answered(office, f"again-{number}")
        item = office.item("MIT")
        found.append(item.not_before - office.clock.now() if item.not_before else 0)
        office.clock.time += 1000
        office.end("MIT", "again")
        await office.commit()

    assert found == waits


async def test_patches_and_parallelism_are_kept_with_what_was_taken() -> None:
    office = await office_with("MIT")
    patch = {"spec": {"containers": [{"name": "agent", "image": "agent:2"}]}}
    office.redrive(parallelism=3, payloadPatch={"n": 7}, templatePatch=patch, rerunReduce=True)

    await answered(office)

    accepted = office.state.redrives[1].accepted
    assert (accepted.name, accepted.uid, accepted.parallelism, accepted.rerun_reduce) == ("again", "uid-again", 3, True)
    revision = office.state.templates.redriven(accepted)
    assert revision is not None
    assert revision.pod_spec["containers"][0]["image"] == "agent:2"
    planned = await office.journal.plan.item(0)
    assert office.state.as_run(0, planned).payload == b'{"n":7,"name":"MIT"}'
    assert bytes(office.body("MIT").payload) == planned.payload, "what the plan says is not changed"


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"image": "agent:2"}, "spec.templatePatch.image is no field of a pod template"),
        ({"spec": None}, "spec.templatePatch makes no pod template"),
        ({"spec": {"containers": []}}, "spec.templatePatch makes no pod template"),
    ],
)
async def test_a_patch_that_makes_no_template_is_refused(patch: dict[str, Any], message: str) -> None:
    office = await office_with("MIT")
    office.redrive(templatePatch=patch)

    status = await answered(office)

    assert reason_of(status, "Failed") == ("True", "InvalidTemplatePatch")
    assert message_of(status, "Failed").startswith(message)
    assert claimed(office) == []


async def test_a_template_is_tried_before_anything_is_taken_for_it() -> None:
    office = await office_with("MIT")
    office.cluster.faults["dry_run"] = INVALID
    office.redrive(templatePatch={"spec": {"nodeSelector": {"disk": "ssd"}}})

    status = await answered(office)

    assert reason_of(status, "Failed") == ("True", "TemplateRejected")
    assert "no such image pull policy" in message_of(status, "Failed")
    assert claimed(office) == []


# --------------------------------------------------------------------------------------------------- once, and in order


async def test_of_two_redrives_for_the_same_letters_the_one_that_was_created_first_has_them() -> None:
    office = await office_with("MIT", "GPL-3")
    office.redrive("first")
    office.redrive("second")

    await answered(office, "second")

    assert (office.told("first")["selected"], office.told("second")["selected"]) == (2, 0)
    assert office.state.redrives.find("uid-second") is None


async def test_a_redrive_whose_answer_was_lost_takes_nothing_twice() -> None:
    office = await office_with("MIT")
    office.redrive()
    office.cluster.faults["write_redrive_status"] = UNAVAILABLE

    status = await answered(office)

    assert (status["phase"], status["selected"]) == ("Running", 1)
    assert len(office.state.redrives) == 1
    assert office.item("MIT").redrive == 1


async def test_a_redrive_that_was_accepted_goes_on_in_another_process_under_its_number() -> None:
    office = await office_with("MIT", "GPL-3")
    office.redrive(selection={"ids": ["MIT", "nobody"]})
    await answered(office)
    again = Office(office.store, office.cluster)
    await again.open()
    again.queue()
    again.redrive(selection={"ids": ["MIT", "nobody"]})
    again.cluster.redrive_statuses.clear()
    async with answering(again):
        await asyncio.sleep(2)
        again.end("MIT", succeeds=True)
        await again.commit()
        await asyncio.sleep(5)

    status = again.told()
    assert (status["phase"], status["selected"], status["succeeded"], status["skipped"]) == ("Complete", 1, 1, 1)
    assert len(again.state.redrives) == 1


async def test_a_claim_that_was_not_durable_when_the_operator_died_is_made_again() -> None:
    office = await office_with("MIT")
    office.redrive()
    async with answering(office, commits=False):
        await office.woken.wait()
        assert office.state.unsaved.claims
        assert office.item("MIT").redrive == 1
    again = Office(office.store, office.cluster)
    await again.open()
    again.queue()
    assert again.item("MIT").redrive == 0
    again.redrive()

    status = await answered(again)

    assert status["selected"] == 1
    assert again.item("MIT").redrive == 1


async def test_nothing_is_told_of_what_was_taken_before_that_is_durable() -> None:
    office = await office_with("MIT")
    office.redrive()
    async with answering(office, commits=False):
        await asyncio.sleep(10)
        assert office.state.unsaved.claims
        assert office.cluster.redrive_statuses == []

        await office.commit()
        await asyncio.sleep(5)

        assert office.told()["phase"] == "Running"


async def test_letters_are_not_taken_while_the_reduce_runs() -> None:
    office = await office_with("MIT", reduce={"template": TEMPLATE})
    office.redrive()

    status = await answered(office)

    assert (status["phase"], reason_of(status, "Accepted")) == ("Waiting", ("False", "Reducing"))
    assert claimed(office) == []


async def test_a_redrive_of_a_job_that_is_being_stopped_waits_and_says_so() -> None:
    office = Office()
    await office.open("MIT", "BSD", "GPL-3", failurePolicy={"maxFailures": 1})
    office.end("MIT")
    await office.commit()
    office.queue()
    office.redrive()
    assert office.state.ledgers[Stage.MAP].running == 2

    status = await answered(office)

    assert (status["phase"], reason_of(status, "Accepted")) == ("Waiting", ("False", "Stopping"))
    assert claimed(office) == []


async def test_what_keeps_the_items_of_a_redrive_from_being_run_is_told() -> None:
    office = await office_with("MIT")
    office.redrive()
    await answered(office)
    office.state.respec(office.state.spec.model_copy(update={"suspend": True}), office.clock.now())

    status = await answered(office)

    assert reason_of(status, "Progressing") == ("False", "Suspended")


async def test_a_redrive_that_was_deleted_while_it_runs_comes_to_its_end_untold() -> None:
    office = await office_with("MIT")
    office.redrive()
    async with answering(office) as redriving:
        await asyncio.sleep(2)
        office.cluster.redrives.clear()
        office.end("MIT", succeeds=True)
        await office.commit()
        await asyncio.sleep(5)

        assert not redriving.pending
    assert office.state.redrives[1].succeeded == 1


async def test_a_status_that_cannot_be_written_for_one_keeps_the_next_waiting_only_for_a_while() -> None:
    office = await office_with("MIT", "GPL-3")
    office.redrive("first", {"ids": ["MIT"]})
    office.redrive("second", {"ids": ["GPL-3"]})
    office.cluster.faults["write_redrive_status"] = UNAVAILABLE

    await answered(office, "second")

    assert (office.told("first")["selected"], office.told("second")["selected"]) == (1, 1)
