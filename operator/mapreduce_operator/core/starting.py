"""Which items of a run may be started as far as their templates are concerned, and which pods are to be given up."""

from collections.abc import Iterator
from typing import Final

from mapreduce_operator.api import MapReduceJobSpec
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.effects import DeleteJob
from mapreduce_operator.core.items import FINAL_STATES
from mapreduce_operator.core.jobs import Revision
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.templates import Templates


class Starting:
    """Brings together what is known of pods (core.startup), of templates, and of Redrives that change these."""

    def __init__(self, books: Books, templates: Templates, spec: MapReduceJobSpec) -> None:
        self._books: Final = books
        self._startup: Final = books.startup
        self._templates: Final = templates
        self._given_up: Final[dict[str, str]] = {}
        """Names of Jobs that are to be deleted as soon as their start is durable, by their uids."""
        self._pending_seconds: dict[Stage, float] = {}
        self.respec(spec)

    def respec(self, spec: MapReduceJobSpec) -> None:
        works = {Stage.MAP: spec.map, Stage.REDUCE: spec.reduce or spec.map}
        self._pending_seconds = {stage: float(work.pending_timeout_seconds) for stage, work in works.items()}

    def ended(self, job_uid: str) -> None:
        self._given_up.pop(job_uid, None)

    def startable(self, stage: Stage, revision: Revision | None, ready: int, now: float) -> int:
        """How many of so many items may be started: of those whose template is at fault one at a time, as a probe."""
        if ready <= 0 or revision is None:
            return 0
        if not self._startup.suspect(stage, revision.hash, self._left(stage)):
            return ready
        return int(self._startup.may_probe(stage, revision.hash, self._books.active, now))

    def give_up(self, unrecorded: set[str], now: float) -> list[DeleteJob]:
        """Deletes the Jobs of pods that have had their time to start, or whose template was corrected.

        `unrecorded` are the uids of those that are not known to have been started, by whoever comes next: these must
        not vanish yet.
        """
        overdue = self._startup.overdue(now, self._pending_seconds)
        for pod in (*overdue, *self._startup.stale(self._revisions())):
            self._given_up[pod.job_uid] = pod.job
        return [DeleteJob(self._given_up.pop(uid), uid) for uid in sorted(self._given_up.keys() - unrecorded)]

    def _revisions(self) -> dict[Stage, set[str]]:
        """Hashes of all templates that items are started with."""
        redrives = self._books.account.redrives
        redriven = [
            self._templates.redriven(redrives[number].accepted)
            for number in redrives.running()
            if redrives[number].called_off is None
        ]
        return {
            Stage.MAP: {one.hash for one in (self._templates.revision(Stage.MAP), *redriven) if one is not None},
            Stage.REDUCE: {one.hash for one in (self._templates.revision(Stage.REDUCE),) if one is not None},
        }

    def next_due(self, now: float) -> float | None:
        """When there is something to give up, or one more to try, in seconds since the epoch."""
        return self._startup.next_due(now, self._pending_seconds)

    def obstacle(self, stage: Stage) -> tuple[str, str] | None:
        """(reason, message) of what a person has to mend before items can run."""
        problem = self._problem(stage)
        return self._templates.obstacle or (problem[:2] if problem is not None and problem[2] else None)

    def difficulty(self, stage: Stage, now: float) -> tuple[str, str] | None:
        """(reason, message) of why pods that are there do not start; None where they do."""
        problem = self._problem(stage)
        if problem is not None:
            return problem[:2]
        return self._startup.unschedulable() or self._startup.podless(now)

    def _problem(self, stage: Stage) -> tuple[str, str, bool] | None:
        revision = self._templates.revision(stage)
        return None if revision is None else self._startup.problem(stage, revision.hash, self._left(stage))

    def hopeless(self) -> Iterator[tuple[int, str, str]]:
        """Redrives whose templatePatch makes a template that cannot start: (number, reason, message).

        Nobody can correct it, since a Redrive cannot be changed.
        """
        redrives, own = self._books.account.redrives, self._templates.revision(Stage.MAP)
        for number in redrives.running():
            progress = redrives[number]
            if progress.called_off is not None or not progress.accepted.patches_template:
                continue
            revision = self._templates.redriven(progress.accepted)
            if revision is None:
                yield number, "InvalidTemplatePatch", "the templatePatch makes no pod template of spec.map.template"
            elif own is not None and revision.hash != own.hash:
                problem = self._startup.hopeless(Stage.MAP, revision.hash, progress.unsettled)
                if problem is not None:
                    yield number, *problem

    def _left(self, stage: Stage) -> int:
        """Items of a stage that are not at their end."""
        ledger = self._books.ledgers[stage]
        return len(ledger) - sum(ledger.counts[state] for state in FINAL_STATES)
