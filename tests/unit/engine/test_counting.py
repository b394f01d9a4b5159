"""Each checkpoint counts by what gave rise to it, also one that no run at work makes."""

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.api import ForkFrom, MapReduceJob, Restart
from mapreduce_operator.core.checkpoint import CommitReason
from mapreduce_operator.engine.forking import fork
from mapreduce_operator.engine.requests import Requests
from mapreduce_operator.ports import StorageError
from tests.unit.core.scenes import DONE
from tests.unit.engine.story import Story
from tests.unit.engine.test_loading import KEYS, RUN, Process, map_reduce_job

Made = dict[tuple[str, str], float]


def made(process: Process) -> Made:
    """Checkpoints by reason and result, as far as there are any."""
    there = [
        sample
        for family in process.registry.collect()
        for sample in family.samples
        if sample.name == "mapreduce_checkpoints_total" and sample.value
    ]
    return {(sample.labels["reason"], sample.labels["result"]): sample.value for sample in there}


def told(process: Process, name: str, **labels: str) -> float | None:
    return process.registry.get_sample_value(f"mapreduce_checkpoint_{name}", labels)


async def test_a_plan_counts_as_the_change_of_phase_that_it_is() -> None:
    process = Process(MemoryStore())
    await process.load()

    assert made(process) == {(CommitReason.PHASE_CHANGE, "success"): 1}
    assert told(process, "duration_seconds_count", reason="PhaseChange") == 1


async def test_what_cannot_be_written_counts_as_a_failure_each_time() -> None:
    class Full(MemoryStore):
        left = 2

        async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
            if key == KEYS.head and self.left:
                self.left -= 1
                raise StorageError("no space")
            return await super().put(key, data, if_absent=if_absent, if_match=if_match)

    process = Process(Full())
    for _ in range(2):
        with pytest.raises(StorageError):
            await process.load()
    await process.load()

    assert made(process) == {(CommitReason.PHASE_CHANGE, "failure"): 2, (CommitReason.PHASE_CHANGE, "success"): 1}


async def test_a_restore_counts_with_what_was_written_for_it() -> None:
    story = Story(MemoryStore())
    await story.load()
    await story.round(DONE, 0)
    await story.round(DONE, 1)
    process, before = story.process, told(story.process, "size_bytes_sum")

    await story.goes_back(1)

    assert made(process)[CommitReason.RESTORE, "success"] == 1
    assert told(process, "duration_seconds_count", reason="Restore") == 1
    assert (told(process, "size_bytes_sum") or 0.0) - (before or 0.0) == story.process.journal.head.size > 0


async def test_a_new_plan_counts_as_a_restart() -> None:
    story = Story(MemoryStore())
    await story.load()
    await story.round(DONE, 0)
    restart = Restart.model_validate({"phase": "Plan", "token": "again"})
    asked = story.job.model_copy(
        update={"spec": story.job.spec.model_copy(update={"suspend": True, "restart": restart})}
    )

    assert await Requests(story.process.world, RUN, story.process.journal).do(asked, story.state) is not None

    assert made(story.process)[CommitReason.RESTART, "success"] == 1


async def test_a_recovery_counts() -> None:
    story = Story(store := MemoryStore())
    await story.load()
    await story.round(DONE, 0)
    await story.commit(with_snapshot=True)
    (key,) = [key for key in store.objects if key.startswith(KEYS.snapshots)]
    del store.objects[key]

    await story.load()

    assert made(story.process) == {(CommitReason.RECOVERY, "success"): 1}


async def test_a_fork_counts() -> None:
    story = Story(MemoryStore())
    await story.load()
    await story.round(DONE, 0)
    child = map_reduce_job().to_kubernetes()
    child["metadata"] |= {"name": "child", "uid": "run-2"}
    source = {"job": {"name": RUN.name, "uid": RUN.uid}}
    del child["spec"]["input"]
    child["spec"]["forkFrom"] = source

    await fork(story.process.world, MapReduceJob.model_validate(child), ForkFrom.model_validate(source))

    assert made(story.process) == {(CommitReason.PHASE_CHANGE, "success"): 1, (CommitReason.FORK, "success"): 1}
