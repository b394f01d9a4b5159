"""What is known of Jobs and pods is what there is, whatever happens to lists and watches meanwhile."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from mapreduce_operator.core.workloads import ContainerEnd, JobSeen, PodSeen, Workload
from mapreduce_operator.engine.informer import Informer
from mapreduce_operator.ports import Cluster, ClusterError, ClusterErrorReason
from tests.unit.engine.little_cluster import BROKEN, EXPIRED, LittleCluster, a_job, a_pod, carried

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


@dataclass
class Watched:
    """An informer at work, and all that it told."""

    cluster: LittleCluster
    informer: Informer
    told: list[tuple[Workload, bool]] = field(default_factory=list)

    def story(self, uid: str) -> list[str]:
        """What was told of an object, in a word each."""
        words: list[str] = []
        for workload, deleted in self.told:
            if workload.uid == uid:
                finished = workload.finished if isinstance(workload, JobSeen) else workload.phase == "Succeeded"
                words.append("deleted" if deleted else "finished" if finished else "there")
        return words

    def known(self, run_uid: str = "run-1") -> dict[str, Workload]:
        return {workload.uid: workload for workload in self.informer.known(run_uid)}

    def is_true(self) -> bool:
        there = {uid: one for objects in self.cluster.there.values() for uid, one in objects.items()}
        return {uid: one for run in self.informer.runs() for uid, one in self.known(run).items()} == there

    def asked(self, kind: str = "jobs") -> list[str]:
        return [verb for verb, of, _ in self.cluster.asked if of == kind]


@asynccontextmanager
async def watching(cluster: LittleCluster) -> AsyncIterator[Watched]:
    informer = Informer(cast("Cluster", cluster))
    one = Watched(cluster, informer)
    task = asyncio.create_task(informer.serve(lambda workload, deleted: one.told.append((workload, deleted))))
    yield one
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    async with watching(LittleCluster()) as one:
        yield one


def finished(job: JobSeen) -> JobSeen:
    return replace(job, complete=True)


async def test_what_is_there_changes_and_goes_is_told_once_each(watched: Watched) -> None:
    watched.cluster.put(a_job("a"))
    await watched.informer.wait_until_synced()
    watched.cluster.put(finished(a_job("a")))
    watched.cluster.put(finished(a_job("a")))
    watched.cluster.put(a_pod("p"))
    await asyncio.sleep(1)
    watched.cluster.remove("a")
    await asyncio.sleep(1)
    assert watched.story("a") == ["there", "finished", "deleted"]
    assert watched.known().keys() == {"p"}
    assert watched.informer.runs() == ["run-1"]
    watched.cluster.remove("p")
    await asyncio.sleep(1)
    assert watched.informer.runs() == []


async def test_a_pod_that_goes_is_told_in_its_last_state(watched: Watched) -> None:
    await watched.informer.wait_until_synced()
    end = ContainerEnd(0, message='{"ok": true}')
    watched.cluster.put(replace(a_pod("p"), phase="Succeeded", agent=end))
    watched.cluster.remove("p")
    await asyncio.sleep(1)
    last, deleted = watched.told[-1]
    assert deleted
    assert isinstance(last, PodSeen)
    assert (last.gone, last.phase, last.agent) == (True, "Succeeded", end)


@pytest.mark.parametrize("end", [BROKEN, "ends"])
async def test_a_stream_that_ends_is_taken_up_where_it_ended(watched: Watched, end: ClusterError) -> None:
    watched.cluster.put(a_job("a"))
    await asyncio.sleep(1)
    for number in range(20):
        watched.cluster.cut("jobs", end)
        watched.cluster.put(a_job(f"while-away-{number}"))
        await asyncio.sleep(5)
    assert watched.is_true()
    assert watched.asked().count("list") == 1
    assert all(watched.story(workload.uid) == ["there"] for workload, _ in watched.told)


async def test_what_happened_before_an_expired_version_is_found_by_a_listing(watched: Watched) -> None:
    for uid in ("goes", "finishes", "stays"):
        watched.cluster.put(a_job(uid))
    watched.cluster.put(a_pod("pod"))
    await asyncio.sleep(1)
    watched.cluster.cut("jobs")
    watched.cluster.cut("pods")
    watched.cluster.remove("goes")
    watched.cluster.put(finished(a_job("finishes")))
    watched.cluster.put(a_job("comes"))
    watched.cluster.remove("pod")
    watched.cluster.compact()
    await asyncio.sleep(5)
    assert watched.is_true()
    stories = {uid: watched.story(uid) for uid in ("goes", "finishes", "stays", "comes", "pod")}
    assert stories == {
        "goes": ["there", "deleted"],
        "finishes": ["there", "finished"],
        "stays": ["there"],
        "comes": ["there"],
        "pod": ["there", "deleted"],
    }
    gone = next(workload for workload, deleted in watched.told if deleted and workload.uid == "pod")
    assert isinstance(gone, PodSeen)
    assert gone.gone


async def test_an_object_that_was_replaced_unseen_is_two_objects(watched: Watched) -> None:
    watched.cluster.put(a_job("first", name="words"))
    await asyncio.sleep(1)
    watched.cluster.cut("jobs", EXPIRED)
    watched.cluster.remove("first")
    watched.cluster.put(a_job("second", name="words"))
    await asyncio.sleep(5)
    assert watched.story("first") == ["there", "deleted"]
    assert watched.story("second") == ["there"]
    assert watched.known().keys() == {"second"}


async def test_what_goes_while_a_listing_is_read_is_told_by_the_watch_after_it(watched: Watched) -> None:
    watched.cluster.put(a_job("a"))
    await asyncio.sleep(1)
    watched.cluster.list_seconds = 10
    watched.cluster.cut("jobs", EXPIRED)
    await asyncio.sleep(3)
    watched.cluster.remove("a")
    watched.cluster.put(a_job("b"))
    await asyncio.sleep(30)
    assert watched.story("a") == ["there", "deleted"]
    assert watched.story("b") == ["there"]
    assert watched.is_true()


async def test_an_end_that_is_told_twice_is_one(watched: Watched) -> None:
    watched.cluster.put(a_job("a"))
    await asyncio.sleep(1)
    watched.cluster.remove("a")
    watched.cluster.history["jobs"].append(
        (watched.cluster.version + 1, replace(watched.cluster.history["jobs"][-1][1], resource_version="102"))
    )
    watched.cluster.version += 1
    await asyncio.sleep(1)
    watched.cluster.cut("jobs")
    await asyncio.sleep(5)
    assert watched.story("a") == ["there", "deleted"]


async def test_a_label_that_is_edited_takes_the_object_from_its_run(watched: Watched) -> None:
    watched.cluster.put(a_job("a"))
    await asyncio.sleep(1)
    watched.cluster.put(replace(a_job("a"), carried=carried("run-2")))
    await asyncio.sleep(1)
    assert watched.known("run-1") == {}
    assert watched.known("run-2").keys() == {"a"}
    assert [(workload.carried.run_uid, deleted) for workload, deleted in watched.told] == [
        ("run-1", False),
        ("run-1", True),
        ("run-2", False),
    ]
    watched.cluster.remove("a")
    await asyncio.sleep(1)
    assert watched.informer.runs() == []


async def test_a_stream_that_breaks_at_once_again_and_again_is_tried_ever_more_seldom(watched: Watched) -> None:
    """Such as where the right to watch is missing: a full listing each time would be a burden to the API server."""
    await asyncio.sleep(1)
    watched.cluster.cut("jobs")
    watched.cluster.watch_faults = [ClusterError(ClusterErrorReason.FORBIDDEN, "cannot watch")] * 1000
    before = len(watched.cluster.asked)
    await asyncio.sleep(600)
    asked = Counter(verb for verb, *_ in watched.cluster.asked[before:])
    assert 55 < asked["watch"] < 75
    assert asked["list"] < 20
    watched.cluster.put(a_job("a"))
    watched.cluster.watch_faults = []
    await asyncio.sleep(15)
    assert watched.is_true()


async def test_an_api_server_that_comes_back_is_noticed_within_seconds(watched: Watched) -> None:
    watched.cluster.put(a_job("a"))
    await asyncio.sleep(1)
    down = ClusterError(ClusterErrorReason.UNAVAILABLE, "connection refused")
    watched.cluster.watch_faults, watched.cluster.list_faults = [down] * 1000, [down] * 1000
    watched.cluster.cut("jobs")
    watched.cluster.cut("pods")
    await asyncio.sleep(120)
    watched.cluster.remove("a")
    watched.cluster.put(a_job("b"))
    watched.cluster.compact()
    watched.cluster.watch_faults, watched.cluster.list_faults = [], []
    await asyncio.sleep(11)
    assert watched.is_true()
    assert watched.story("a") == ["there", "deleted"]


async def test_retry_after_is_kept(watched: Watched) -> None:
    await asyncio.sleep(1)
    throttled = ClusterError(ClusterErrorReason.THROTTLED, "too many requests", retry_after=33)
    before = watched.asked().count("watch")
    watched.cluster.cut("jobs", throttled)
    await asyncio.sleep(32)
    assert watched.asked().count("watch") == before
    await asyncio.sleep(3)
    assert watched.asked().count("watch") == before + 1


async def test_nothing_is_taken_for_missing_before_the_first_listing() -> None:
    cluster = LittleCluster()
    cluster.put(a_job("a"))
    cluster.list_seconds = 30
    async with watching(cluster) as watched:
        await asyncio.sleep(20)
        assert not watched.informer.synced
        await watched.informer.wait_until_synced()
        assert watched.known().keys() == {"a"}


async def test_a_long_listing_lets_others_do_their_work() -> None:
    cluster = LittleCluster()
    cluster.list_seconds = 0
    for number in range(5000):
        cluster.put(a_job(f"job-{number}"))
    async with watching(cluster) as watched:
        while not watched.told:  # noqa: ASYNC110 - until the listing is there
            await asyncio.sleep(0)
        turns = 0
        while len(watched.told) < 5000:
            turns += 1
            await asyncio.sleep(0)
    assert turns >= 5


def faults(cluster: LittleCluster, dice: random.Random) -> list[Callable[[], None]]:
    return [
        lambda: cluster.cut("jobs"),
        lambda: cluster.cut("pods"),
        lambda: cluster.cut("jobs", "ends"),
        lambda: cluster.cut("pods", EXPIRED),
        cluster.compact,
        lambda: cluster.list_faults.append(BROKEN),
        lambda: cluster.watch_faults.extend([BROKEN] * dice.randint(1, 6)),
        lambda: cluster.watch_faults.append(EXPIRED),
    ]


@pytest.mark.parametrize("seed", range(25))
async def test_after_any_story_the_truth_is_known_and_each_end_was_told_once(watched: Watched, seed: int) -> None:
    dice = random.Random(seed)
    mishaps = faults(watched.cluster, dice)
    living: list[str] = []
    ended: list[str] = []
    for number in range(400):
        match dice.randrange(6):
            case 0 | 1:
                uid = f"{number}"
                living.append(uid)
                watched.cluster.put(a_job(uid) if number % 2 else a_pod(uid))
            case 2 if living:
                uid = dice.choice(living)
                kind = "jobs" if int(uid) % 2 else "pods"
                seen = watched.cluster.there[kind][uid]  # type: ignore[index]
                watched.cluster.put(finished(seen) if isinstance(seen, JobSeen) else replace(seen, phase="Succeeded"))
            case 3 if living:
                uid = living.pop(dice.randrange(len(living)))
                ended.append(uid)
                watched.cluster.remove(uid)
            case 4:
                dice.choice(mishaps)()
            case _:
                await asyncio.sleep(dice.choice([0, 0.005, 0.3, 3]))
    watched.cluster.cut("jobs")
    watched.cluster.cut("pods")
    await asyncio.sleep(120)
    assert watched.is_true()
    for uid in living:
        assert "deleted" not in watched.story(uid)
    for uid in ended:
        story = watched.story(uid)
        # What came and went while nobody watched, and was forgotten since, is told by nobody.
        assert story == [] or (story[-1], story.count("deleted")) == ("deleted", 1)
