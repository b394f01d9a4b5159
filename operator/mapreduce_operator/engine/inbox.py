"""What was told of the Jobs and pods of a run, until the run takes it in: of each only its last state."""

import logging
from typing import Final

from mapreduce_operator.core.contract import ResultRule
from mapreduce_operator.core.names import RunRef, Stage
from mapreduce_operator.core.run import RunState
from mapreduce_operator.core.workloads import JobSeen, PodSeen, Workload
from mapreduce_operator.engine.effects import Effects
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.engine.troubles import Troubles
from mapreduce_operator.engine.world import World
from mapreduce_operator.ports import StorageError

log = logging.getLogger(__name__)

_UNSEEN: Final = "pods that ended are not looked at yet"


class Inbox:
    """Of one run. It is true as long as something waits in it."""

    def __init__(self, world: World, run: RunRef, journal: Journal, troubles: Troubles) -> None:
        self._world: Final = world
        self._run: Final = run
        self._journal: Final = journal
        self._troubles: Final = troubles
        self._news: Final[dict[str, tuple[Workload, bool]]] = {}

    def __bool__(self) -> bool:
        return bool(self._news)

    def put(self, workload: Workload, deleted: bool) -> None:
        """The informer tells of a Job or pod."""
        self._news[workload.uid] = workload, deleted

    def put_late(self, workload: Workload, deleted: bool) -> None:
        """A Job or pod whose news is late. What the informer has told of it meanwhile is newer."""
        self._news.setdefault(workload.uid, (workload, deleted))

    async def absorb(self, state: RunState, effects: Effects) -> None:
        """Takes in what was told since the last time: Jobs first, so that pods find theirs adopted."""
        while self._news:
            news = list(self._news.values())
            self._news.clear()
            for workload, deleted in news:
                if isinstance(workload, JobSeen) and workload.owner_uid == self._run.uid:
                    for effect in state.agents.observe_job(workload, deleted, self._world.clock.now()):
                        effects.start(effect)
            pods = [(pod, deleted) for pod, deleted in news if isinstance(pod, PodSeen)]
            for number, (pod, _) in enumerate(pods):
                try:
                    rule = await self._rule_for(state, pod)
                except StorageError as error:
                    log.warning("%s/%s: %s: %s", self._run.namespace, self._run.name, _UNSEEN, error)
                    self._troubles.waits(_UNSEEN, error)
                    for later in pods[number:]:
                        self.put_late(*later)
                    return
                self._troubles.goes_on(_UNSEEN)
                now = self._world.clock.now()
                launched_at = state.books.startup.launched_at(pod.job_uid)
                if launched_at is not None and pod.started:
                    ran = pod.agent.finished_at - pod.agent.started_at if pod.agent is not None else 0.0
                    self._world.metrics.agent_started(self._run.namespace, max(0.0, now - launched_at - ran))
                for effect in state.agents.observe_pod(pod, rule, now):
                    effects.start(effect)

    async def _rule_for(self, state: RunState, pod: PodSeen) -> ResultRule:
        rule = state.templates.rule(pod.carried.stage)
        judged = pod.ended or pod.agent is not None
        if rule.expression is None or not judged or pod.carried.stage is Stage.REDUCE:
            return rule
        position = state.ledgers[Stage.MAP].position(pod.carried.dispatches[0].item_key)
        if position is None:
            return rule
        item = state.as_run(position, await self._journal.plan.item(position))
        return ResultRule(rule.required, rule.expression, item.payload)
