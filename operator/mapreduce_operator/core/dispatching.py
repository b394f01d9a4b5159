"""Which items are started, and when, as far as the run itself is concerned: the operator's own cap comes on top."""

from collections.abc import Iterator
from typing import Final

from mapreduce_operator.api import ItemState, Phase
from mapreduce_operator.core.batches import Uncommitted
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.course import Course
from mapreduce_operator.core.effects import Effect, Launch
from mapreduce_operator.core.guard import Guard
from mapreduce_operator.core.jobs import Revision
from mapreduce_operator.core.letterbox import Letterbox
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.phases import FINAL_PHASES
from mapreduce_operator.core.starting import Starting
from mapreduce_operator.core.templates import Templates
from mapreduce_operator.core.workloads import Dispatch
from mapreduce_operator.core.works import Works

MAX_UNCOMMITTED: Final = 500
"""Outcomes that may wait for storage before dispatching pauses; their Jobs stay, so nothing is lost meanwhile."""


class Dispatching:
    """Brings together all that has a say in it: the course of the run, its limits, its templates, and people."""

    def __init__(
        self,
        works: Works,
        books: Books,
        unsaved: Uncommitted,
        *,
        course: Course,
        guard: Guard,
        letterbox: Letterbox,
        templates: Templates,
        starting: Starting,
    ) -> None:
        self._works: Final = works
        self._ledgers: Final = books.ledgers
        self._redrives: Final = books.account.redrives
        self._unsaved: Final = unsaved
        self._course: Final = course
        self._guard: Final = guard
        self._letterbox: Final = letterbox
        self._templates: Final = templates
        self._starting: Final = starting

    def revision(self, stage: Stage, redrive: int) -> Revision | None:
        """The template that an item is started with now, by the number of the Redrive that took it last."""
        if redrive:
            return self._templates.redriven(self._redrives[redrive].accepted)
        return self._templates.revision(stage)

    def wanted(self, now: float) -> int:
        """Jobs that the run would start now if the operator's own cap allowed it."""
        if not self._goes_on:
            return 0
        wanted = sum(room for _, room in self._lanes(now))
        if self._course.turn.phase is Phase.MAP:
            wanted = min(wanted, self._works.spec.map.max_parallel - self._ledgers[Stage.MAP].running)
            if (left := self._guard.launches_left()) is not None:
                wanted = min(wanted, left)
        return max(0, wanted)

    def launch(self, granted: int, now: float) -> list[Effect]:
        """Starts items, at most as many as the operator's own cap allows."""
        stage = self._course.stage
        left = min(granted, self.wanted(now))
        launches: list[Effect] = []
        for lane, room in list(self._lanes(now)) if left else ():
            for _ in range(min(room, left)):
                position = self._ledgers[stage].dispatch_next(self._works.retry(stage), now, lane)
                if position is None:
                    break
                left -= 1
                launches.append(self._launch(stage, position))
        return launches

    def awaits_job(self, stage: Stage, position: int, dispatch: int) -> bool:
        """The dispatch is being launched, nothing has been seen of its Job, and the spec still lets it start."""
        ledger = self._ledgers[stage]
        item = ledger[position]
        if item.state is not ItemState.RUNNING or item.dispatch != dispatch or item.job_uid:
            return False
        if not self._goes_on:
            return False
        if stage is Stage.REDUCE:
            return True
        if not self._letterbox.is_wanted(position):
            return False
        redriven = item.redrive and self._redrives[item.redrive].called_off is None
        may_start = redriven if item.redrive else self._course.takes_new_items()
        within = ledger.running <= self._works.spec.map.max_parallel
        return bool(may_start) and within and self._guard.admits(position)

    @property
    def _goes_on(self) -> bool:
        spec, course = self._works.spec, self._course
        if spec.suspend or course.ends_now or not course.settled or course.turn.phase in FINAL_PHASES:
            return False
        return len(self._unsaved.records) <= MAX_UNCOMMITTED and self._templates.good

    def _lanes(self, now: float) -> Iterator[tuple[int, int]]:
        """Which lanes of the present stage have items to start, and how many: Redrives first, then all others."""
        if self._course.turn.phase is Phase.REDUCE:
            reduce = self._works.spec.reduce
            if reduce is not None and self._course.reduce_ready is reduce.results_as:
                ready = self._ledgers[Stage.REDUCE].ready()
                yield 0, self._starting.startable(Stage.REDUCE, self._templates.revision(Stage.REDUCE), ready, now)
            return
        ledger = self._ledgers[Stage.MAP]
        for number in self._redrives.running():
            accepted, ready = self._redrives[number].accepted, ledger.ready(number)
            if self._redrives[number].called_off is not None:
                continue
            if accepted.parallelism:
                ready = min(ready, accepted.parallelism - ledger.running_in(number))
            yield number, self._starting.startable(Stage.MAP, self.revision(Stage.MAP, number), ready, now)
        if self._course.takes_new_items():
            yield 0, self._starting.startable(Stage.MAP, self._templates.revision(Stage.MAP), ledger.ready(), now)

    def _launch(self, stage: Stage, position: int) -> Launch:
        ledger = self._ledgers[stage]
        item = ledger[position]
        if stage is Stage.MAP:
            self._guard.launched(position)
        return Launch(
            stage,
            position,
            Dispatch(ledger.key(position), item.dispatch),
            attempt=item.attempts + 1,
            max_attempts=item.allowed or self._works.retry(stage).max_attempts,
            redrive=item.redrive,
            oom_kills=item.oom_kills,
        )
