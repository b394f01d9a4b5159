"""One run of a scenario: operators that come and go, people and nodes that interfere, and the audit that watches."""

import asyncio
import contextlib
import logging
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.ports import DeposedError, ObjectStore
from tests.simulation.api_server import Job, Pod
from tests.simulation.audit import Audit
from tests.simulation.connection import LONGEST_TRIP_SECONDS, ApiFaults
from tests.simulation.operator_in_memory import OperatorInMemory
from tests.simulation.people import People, Wishes
from tests.simulation.process import Leads, Lease, Process
from tests.simulation.scenario import BAD_IMAGE, Edit, Life, Scenario, agents
from tests.simulation.simulated_cluster import SimulatedCluster
from tests.simulation.storage import RemoteStore
from tests.simulation.timeline import JumpingLoop, LoopClock
from tests.simulation.weather import ApiWeather, Climate, StorageWeather

LIMIT_SECONDS: Final = 3 * 3600.0
"""A run that has not ended by then never will."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one seed."""

    seed: int
    violations: list[str]
    points: int
    """At how many the operators could have died."""
    struck: int
    """Of the scenario's lives: how many came to the point where they were to die or to be stopped."""
    jobs: int
    """That were created."""
    seconds: float
    """Of simulated time."""


class ChaosRun:
    """One run of a scenario."""

    def __init__(
        self,
        given: Scenario,
        *,
        trace: Callable[[str], None] | None = None,
        store_of: Callable[[ObjectStore], ObjectStore] = lambda store: store,
    ) -> None:
        """`store_of` may put something between the operators and storage: the mutations of tests."""
        self.scenario: Final = given
        chance = {
            name: Random(f"{given.seed}/{name}")
            for name in ("cluster", "agents", "people", "user", "api", "storage", "kopf")
        }
        self.cluster: Final = SimulatedCluster(
            agents(chance["agents"], given.padding), nodes=given.nodes, lag=0.05, chance=chance["cluster"]
        )
        self.cluster.trace = trace
        self._trace: Final = trace
        self.store: Final = MemoryStore()
        self._store_of: Final = store_of
        self._body: Final = given.body
        metadata = self._body["metadata"]
        self._run: Final = RunRef(metadata["namespace"], metadata["name"], metadata["uid"])
        self._lease: Final = Lease()
        self.audit: Final = self._audit_of(self._body)
        self._weather: Final = ApiWeather(given.api, chance["api"])
        self._storage_weather: Final = StorageWeather(given.storage, chance["storage"])
        self._ended_once = False
        self._finished: Final = asyncio.Event()
        self.struck = 0
        self._operators: Final[list[OperatorInMemory]] = []
        self._ended: Final[dict[int, float]] = {}
        """When each process came to its end, or to its stop."""
        self._asides: Final[set[asyncio.Task[None]]] = set()
        self.cluster.on_status.append(self._note_the_end)
        self.cluster.redrives.on_change.append(lambda *_: self._soon(self._look_for_the_end))
        self.cluster.keeps_waiting = keeps_waiting
        self.cluster.on_gone.append(self._let_go)
        self._chance: Final = chance["user"]
        self._people: Final = People(self.cluster, given, chance["people"])
        self._wishes: Final = Wishes(self.cluster, given, self._edited)
        self._wishes.on_fork.append(self._watch_fork)
        self._wishes.on_rest.append(lambda: self._soon(self._look_for_the_end))
        self._kopf: Final = chance["kopf"]

    def _audit_of(self, body: dict[str, Any]) -> Audit:
        metadata, given = body["metadata"], self.scenario
        run = RunRef(metadata["namespace"], metadata["name"], metadata["uid"])
        audit = self.cluster.audits[run.uid] = Audit(
            self.cluster,
            self.store,
            run,
            body["spec"],
            capacity=given.capacity,
            leads=lambda process: process == self._lease.holder,
            known=self._is_known,
            skewed=any(life.ahead for life in given.lives),
        )
        return audit

    def _watch_fork(self, body: dict[str, Any]) -> None:
        self._audit_of(body)

    @property
    def points(self) -> int:
        return sum(operator.process.points for operator in self._operators)

    async def run(self) -> None:
        """From the user's `kubectl apply` to the end; raises nothing: what is wrong stands in `cluster.violations`."""
        for edit in self.scenario.edits:
            self._at(edit.at, self._edit, edit)
        self._people.ask()
        self._wishes.tell()
        if self.scenario.deleted_at is not None:
            self._at(self.scenario.deleted_at, self._delete)
        late = False
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                await self._until_the_end()
        except TimeoutError:
            late = True
            self._say("time is up")
        if self.cluster.deleted:
            self._check_deleted()
        else:
            await self._close()
        if late:
            # Last, since what was found above says why.
            self._wrong("time is up, and somebody waits still")
        for operator in self._operators:
            await operator.kill()

    async def _close(self) -> None:
        """All is over, of the job and of its forks."""
        for uid, audit in self.cluster.audits.items():
            planned = self.cluster.status_of.get(uid, {}).get("items", {}).get("total", 0)
            audit.close(self.scenario.items if uid == self._run.uid else planned)
            await audit.check_kept()
        self._check_counted()

    def _check_counted(self) -> None:
        """O3: what is durable is counted once at most, whoever finds it again; who is killed may not come to it."""
        durable = Counter(
            line.get("reason", "Succeeded")
            for audit in self.cluster.audits.values()
            for line in audit.durable.outcomes.values()
        )
        counted: Counter[str] = Counter()
        for operator in self._operators:
            for (name, labels), value in operator.series("mapreduce_item_").items():
                if name in {"mapreduce_item_attempts_total", "mapreduce_item_interruptions_total"}:
                    counted[dict(labels)["reason"]] += int(value)
        if more := counted - durable:
            self._wrong(f"outcomes were counted more often than they came to be: {dict(more)}")

    async def _until_the_end(self) -> None:
        """One operator after another, and quiet times at last."""
        for life in self.scenario.lives:
            await self._live(life)
            if self._finished.is_set():
                break
        else:
            last = self._start(Process(len(self._operators) + 1), self._weather)
            await self._until_finished(last)
            await asyncio.sleep(60)
            await self._stop(last)
        if not self.cluster.deleted:
            operator = await self._clear_up()
            if self.scenario.deleted_at_the_end and not self.cluster.violations:
                await self._close()
                self._delete()
                with contextlib.suppress(TimeoutError):
                    await operator.until(lambda: not self.cluster.finalizers, 300.0)

    # ------------------------------------------------------------------------------------------------- operators

    async def _live(self, life: Life) -> None:
        """One operator, to its end or to its stop."""
        process = Process(len(self._operators) + 1, dies_at=life.dies_at, stops_at=life.stops_at)
        if life.loses_lease:
            # Who finds no Lease waits as long as one lasts, so that whoever led before knows that he does not.
            await asyncio.gather(*self._asides)
            self._say("the Lease is deleted")
            self._lease.lose()
        operator = self._start(process, self._weather, life.ahead)
        await self._until_finished(operator, process.changed, life.drains_after)
        self.struck += process.stopped or process.dead
        if process.stopped:
            self._say(f"{process.number}: STOPPED")
            task = asyncio.create_task(self._resume(operator, life))
            self._asides.add(task)
            task.add_done_callback(self._asides.discard)
        elif process.dead:
            self._say(f"{process.number}: KILLED")
            await operator.kill()
        else:
            self._say(f"{process.number}: SIGTERM")
            await self._stop(operator)
        self._ended[process.number] = asyncio.get_running_loop().time()
        self._people.delete_some(life.deleted_by_hand, life.pause)
        await asyncio.sleep(life.pause)

    async def _resume(self, operator: OperatorInMemory, life: Life) -> None:
        """A process that was stopped goes on, and learns sooner or later that another one leads."""
        await asyncio.sleep(life.stopped_for)
        if self._lease.holder != operator.process.number and not life.unaware_for:
            operator.leadership.held = False
        self._say(f"{operator.process.number}: RESUMED")
        operator.process.resume()
        await asyncio.sleep(life.unaware_for)
        operator.leadership.held = False
        await asyncio.wait([operator.engine], timeout=2.0)
        await operator.kill()

    def _start(self, process: Process, faults: ApiFaults | None, ahead: float = 0.0) -> OperatorInMemory:
        self._say(f"{process.number}: STARTED")
        store: ObjectStore = self.store
        if faults is not None:
            store = RemoteStore(store, process, self._storage_weather, self._trace)
        operator = OperatorInMemory(
            self.cluster,
            self._body,
            self._store_of(store),
            capacity=self.scenario.capacity,
            process=process,
            faults=faults,
            leadership=Leads(self._lease, process.number),
            clock=LoopClock(ahead),
            kopf=self._kopf,
        )
        self._operators.append(operator)
        return operator

    async def _until_finished(
        self, operator: OperatorInMemory, changed: asyncio.Event | None = None, seconds: float | None = None
    ) -> None:
        """Returns when the run is over, when the process came to its point, or when its time is up."""
        events = [self._finished, *([changed] if changed is not None else [])]
        waiting = [asyncio.ensure_future(event.wait()) for event in events]
        await asyncio.wait([*waiting, operator.engine], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()
        self._check_engine(operator)

    def _is_known(self, job: Job, process: int) -> bool:
        """A process knows of a Job that it was told of, and of one that an earlier one had time to record."""
        now = asyncio.get_running_loop().time()
        time_to_record = self._body["spec"]["checkpoint"]["everySeconds"] + 3.0
        calm = self.scenario.storage == Climate() and self.scenario.api == Climate()
        for operator in self._operators:
            number, connection = operator.process.number, operator.connection
            if job.uid not in connection.told:
                continue
            first, last = connection.told[job.uid]
            # What came and went before there was a run to be told of it, nobody knew.
            at_work = last >= max(connection.listed.values(), default=now)
            if number == process and at_work and now - first > LONGEST_TRIP_SECONDS:
                return True
            if calm and self._ended.get(number, first) - first > time_to_record:
                return True
        return False

    def _check_engine(self, operator: OperatorInMemory) -> None:
        """An engine never ends by itself, unless its process does not lead any more."""
        if operator.process.dead or not operator.engine.done() or operator.engine.cancelled():
            return
        error = operator.engine.exception()
        if operator.process.number == self._lease.holder or not is_deposed(error):
            self._wrong(f"the engine of process {operator.process.number} ended: {error!r}")

    async def _stop(self, operator: OperatorInMemory) -> None:
        self._check_engine(operator)
        await operator.drain()

    async def _clear_up(self) -> OperatorInMemory:
        """Quiet times: another operator puts in order what is left."""
        self._people.rest()
        await asyncio.gather(*self._asides)
        for node in list(self.cluster.lost_nodes):
            self.cluster.bring_back(node)
        operator = self._start(Process(len(self._operators) + 1), None)
        with contextlib.suppress(TimeoutError):
            await operator.until(lambda: not self.cluster.jobs and not self.cluster.pods and self._rests, 900.0)
        await asyncio.sleep(90.0)
        self._check_engine(operator)
        return operator

    @property
    def _rests(self) -> bool:
        """The end of the run is durable and told: a Redrive that was deleted at once may still have been taken up."""
        ended = all(
            audit.durable.head.get("phase") not in {None, "Map", "Reduce"}
            and "completionTime" in self.cluster.status_of.get(uid, {})
            for uid, audit in self.cluster.audits.items()
        )
        return ended and not self._wishes.waits

    def _delete(self) -> None:
        """The user deletes the object."""
        if self.cluster.deleted or not self.cluster.finalizers:
            return
        self._say("DELETED")
        for operator in self._operators:
            if not operator.process.dead:
                for uid in self.cluster.mapreducejobs:
                    operator.delete(uid)

    def _let_go(self, uid: str) -> None:
        """An object is gone; the garbage collector removes the Jobs that it owned."""
        self._finished.set()
        for job in list(self.cluster.jobs.values()):
            if job.seen.owner_uid == uid:
                self.cluster.delete_job_by_hand(job)

    def _check_deleted(self) -> None:
        """A10: an object that is deleted is let go. What is in storage goes with it, unless storage is away."""
        if self.cluster.finalizers:
            self._wrong("the object is not let go")
        if self.scenario.storage == Climate():
            for audit in self.cluster.audits.values():
                audit.check_left_over()

    def _note_the_end(self, uid: str, status: dict[str, Any], process: int) -> None:
        del uid, process
        if "completionTime" in status:
            if not self._ended_once:
                self._ended_once = True
                self._people.ask_at_the_end()
            self._soon(self._look_for_the_end)

    def _look_for_the_end(self) -> None:
        """The run has ended, and everybody who asked for a Redrive has an answer."""
        ended = "completionTime" in self.cluster.status
        waits = self._people.waits_for_answers or self._wishes.waits
        if ended and not self.cluster.deleted and not waits:
            self._finished.set()

    # ------------------------------------------------------------------------------------------------- the user

    def _edit(self, edit: Edit) -> None:
        if self._finished.is_set():
            return
        self._say(f"EDIT: {edit}")
        spec = self._body["spec"]
        if edit.max_parallel is not None:
            spec["map"]["maxParallel"] = edit.max_parallel
        if edit.suspend is not None:
            spec["suspend"] = edit.suspend
        if edit.image is not None:
            spec["map"]["template"]["spec"]["containers"][0]["image"] = edit.image
        self._edited(self._run.uid)

    def _edited(self, uid: str) -> None:
        self.cluster.edited(uid)
        for operator in self._operators:
            if not operator.process.dead:
                self._at(self._chance.random(), operator.observe, uid)

    def _soon(self, act: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(act)

    def _at(self, seconds: float, act: Callable[..., None], *about: Any) -> None:
        asyncio.get_running_loop().call_later(seconds, act, *about)

    def _say(self, text: str) -> None:
        if self._trace is not None:
            self._trace(text)

    def _wrong(self, text: str) -> None:
        self.cluster.violations.append(text)
        self._say(f"VIOLATION: {text}")


def keeps_waiting(pod: Pod) -> str:
    """Why the agent of a pod does not start."""
    image = pod.job.manifest["spec"]["template"]["spec"]["containers"][0]["image"]
    return "ImagePullBackOff" if image == BAD_IMAGE else ""


def is_deposed(error: BaseException | None) -> bool:
    """The error, or all of a group, says that another process leads."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_deposed, error.exceptions))
    return isinstance(error, DeposedError)


class _Log(logging.Handler):
    """What the engine logs is told, and what it did not expect is a violation, also where it recovers."""

    def __init__(self, violations: list[str], trace: Callable[[str], None] | None) -> None:
        super().__init__(logging.ERROR if trace is None else logging.INFO)
        self._violations: Final = violations
        self._trace: Final = trace

    def emit(self, record: logging.LogRecord) -> None:
        if self._trace is not None:
            self._trace(f"   {record.levelname.lower()}: {record.getMessage()}")
        error = record.exc_info[1] if record.exc_info else None
        if record.levelno >= logging.ERROR and not is_deposed(error):
            where = "".join(traceback.format_exception(error)) if error else ""
            self._violations.append(f"{record.getMessage()}\n{where}".strip())


@contextlib.contextmanager
def listening(violations: list[str], trace: Callable[[str], None] | None) -> Iterator[None]:
    """Hears the engine's log. What nobody reads is not even formatted."""
    logger = logging.getLogger("mapreduce_operator")
    handler = _Log(violations, trace)
    level, propagates = logger.level, logger.propagate
    logger.setLevel(handler.level)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


def play(given: Scenario, trace: Callable[[str], None] | None = None, **more: Any) -> Verdict:
    """Runs a scenario on a loop of its own."""

    async def whole() -> Verdict:
        loop = asyncio.get_running_loop()
        tell = None if trace is None else lambda text: trace(f"{loop.time():10.3f}  {text}")
        run = ChaosRun(given, trace=tell, **more)
        with listening(run.cluster.violations, tell):
            await run.run()
        return Verdict(
            given.seed, run.cluster.violations, run.points, run.struck, len(run.cluster.history), loop.time()
        )

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(whole())
