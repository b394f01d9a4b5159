"""What is told of dead letters and Redrives: never what is not durable, and at the end all of it."""

from collections.abc import Callable
from typing import Any, Final

from mapreduce_operator.core.names import RunRef
from tests.simulation.connection import LONGEST_TRIP_SECONDS
from tests.simulation.durable import Durable, LetterStates, Line
from tests.simulation.jobs import condition_of
from tests.simulation.objects import Body
from tests.simulation.simulated_cluster import SimulatedCluster


class LettersAudit:
    """Watches the queue of one run and the Redrives of its letters."""

    def __init__(
        self,
        cluster: SimulatedCluster,
        durable: Durable,
        run: RunRef,
        wrong: Callable[[str], None],
        leads: Callable[[int], bool],
    ) -> None:
        self._cluster: Final = cluster
        self._durable: Final = durable
        self._run: Final = run
        self._wrong: Final = wrong
        self._leads: Final = leads
        self._went_back_at = float("-inf")
        """When the run went on from an earlier checkpoint: what it had told before stays told, whatever comes now."""
        durable.on_commit.append(self._on_commit)
        cluster.queues.on_status.append(self._on_queue_status)
        cluster.redrives.on_status.append(self._on_redrive_status)

    def _mine(self, queue: Body) -> bool:
        return bool(queue["spec"]["jobRef"]["uid"] == self._run.uid)

    def _on_commit(self, header: dict[str, Any], lines: list[Line]) -> None:
        del lines
        if "previous" in header:
            self._went_back_at = self._cluster.clock.now()

    def _is_asked(self, redrive: Body) -> bool:
        """The Redrive is of letters of this run, as far as there is a queue that says so."""
        queue = self._cluster.queues.by_name.get(redrive["spec"]["queue"])
        return self._mine(queue) if queue is not None else redrive["metadata"]["uid"] in self._durable.redrives

    def _on_queue_status(self, queue: Body, status: dict[str, Any], process: int) -> None:
        del process
        if not self._mine(queue) or self._run.uid in self._cluster.deleted:
            return
        self._durable.refresh()
        said = letter_states(status)
        if said not in {counts.letters for counts in self._durable.counts.values()}:
            self._wrong(f"the queue is said to hold {said}, which was never durable")
        letters = status["letters"]
        if letters["total"] != sum(said):
            self._wrong(f"the letters of the queue do not sum up: {letters}")
        if letters["open"] != sum(status["reasons"].values()) or letters["open"] != sum(status["causes"].values()):
            self._wrong(f"reasons and causes of the queue are not those of {letters['open']} open letters: {status}")

    def _on_redrive_status(self, redrive: Body, status: dict[str, Any], process: int) -> None:
        name, uid = redrive["metadata"]["name"], redrive["metadata"]["uid"]
        self._durable.refresh()
        told, accepted = {"status": status}, self._durable.redrives.get(uid)
        failed, complete = (condition_of(told, kind) for kind in ("Failed", "Complete"))
        late = self._cluster.clock.now() - self._went_back_at < LONGEST_TRIP_SECONDS
        if late or not self._leads(process) or not self._is_asked(redrive):
            # What a former leader writes late, the present one sets right; so it is with the state of before.
            return
        if is_over(redrive) and not is_over(told):
            self._wrong(f"the Redrive {name} was answered, and is not any more")
        if accepted is None:
            if status.get("selected"):
                self._wrong(f"the Redrive {name} claims to have taken {status['selected']} letters; none is durable")
            return
        if failed["status"] == "True" and failed["reason"] != "JobGone" and not accepted.called_off:
            self._wrong(f"the Redrive {name} was refused ({failed['reason']}), and took letters")
        if "selected" not in status or failed["reason"] == "JobGone":
            return
        selected, succeeded, again = status["selected"], status["succeeded"], status["failed"]
        if selected != accepted.selected or selected != succeeded + again + status["remaining"]:
            self._wrong(f"the Redrive {name} took {accepted.selected} letters; its status does not sum up: {status}")
        if succeeded > accepted.succeeded or again > accepted.failed:
            self._wrong(
                f"the Redrive {name} claims {succeeded} successes and {again} failures; durable are "
                f"{accepted.succeeded} and {accepted.failed}"
            )
        over = "True" in {complete["status"], failed["status"]}
        if over and accepted.succeeded + accepted.failed != accepted.selected:
            self._wrong(f"the Redrive {name} is complete, and items of it are not at their end")

    def check_job_status(self, status: dict[str, Any], letters: LetterStates) -> None:
        """A status of the job, as of a checkpoint with these letters."""
        told = status.get("deadLetters")
        if told is None:
            if sum(letters):
                self._wrong(f"the status of the job does not tell of its letters {letters}")
            return
        unresolved = letters.open + letters.claimed + letters.archived
        if (told["open"], told["unresolved"]) != (letters.open, unresolved):
            self._wrong(f"the status of the job says {told} of the letters {letters}")

    def close(self) -> None:
        """The run is over, and everything had time to be put in order."""
        for accepted in self._durable.redrives.values():
            if accepted.succeeded + accepted.failed != accepted.selected:
                self._wrong(f"items of the Redrive {accepted.name} are not at their end: {accepted}")
        if claimed := [key for key, state in self._durable.letters.items() if state == "Claimed"]:
            self._wrong(f"letters stay claimed: {claimed}")
        there = self._durable.counts[self._durable.sequence].letters
        self._check_queue(there)
        for key in self._durable.letters:
            if self._durable.letter(key) not in self._durable.objects:
                self._wrong(f"the body of the letter of {key} is gone")
        for redrive in self._cluster.redrives.by_name.values():
            self._check_redrive(redrive)

    def check_left_over(self) -> None:
        """The job was deleted, and nothing else than letters that nobody has resolved outlives it."""
        expected = {key for key, state in self._durable.letters.items() if state != "Resolved"}
        left = set(self._durable.left())
        if left != {self._durable.letter(key) for key in expected}:
            self._wrong(f"in storage are left {sorted(left)}; unresolved letters are {sorted(expected)}")
        queues = [queue for queue in self._cluster.queues.by_name.values() if self._mine(queue)]
        if len(queues) != bool(expected):
            self._wrong(f"{len(expected)} unresolved letters outlive their job, with {len(queues)} queues")

    def _check_queue(self, there: LetterStates) -> None:
        queues = [queue for queue in self._cluster.queues.by_name.values() if self._mine(queue)]
        if len(queues) > 1:
            self._wrong(f"there are {len(queues)} queues")
        if not queues:
            if sum(there):
                self._wrong(f"there is no queue for the letters {there}")
        elif "status" not in queues[0] or not self._same(queues[0], letter_states(queues[0]["status"]), there):
            self._wrong(f"the queue says {queues[0].get('status', {}).get('letters')} and holds {there}")
        elif queues[0]["status"]["observedGeneration"] != queues[0]["metadata"]["generation"]:
            self._wrong("the queue was edited, and its status does not answer to that")

    def _same(self, queue: Body, told: LetterStates, there: LetterStates) -> bool:
        """When resolved letters are purged may be told by a clock that is an hour ahead."""
        if "retentionSeconds" in queue["spec"]:
            return told._replace(resolved=0) == there._replace(resolved=0)
        return told == there

    def _check_redrive(self, redrive: Body) -> None:
        name, status = redrive["metadata"]["name"], redrive.get("status", {})
        if not self._is_asked(redrive):
            return
        there = redrive["spec"]["queue"] in self._cluster.queues.by_name
        if not is_over(redrive):
            if there:
                self._wrong(f"the Redrive {name} was not answered: {status}")
            return
        accepted = self._durable.redrives.get(redrive["metadata"]["uid"])
        same = accepted is None or (status["succeeded"], status["failed"]) == (accepted.succeeded, accepted.failed)
        if not same and self._went_back_at < 0:
            self._wrong(f"the Redrive {name} says {status}; durable is {accepted}")
        ids = redrive["spec"]["selection"].get("ids")
        if ids and condition_of(redrive, "Complete")["status"] == "True":
            told = status["selected"] + status["skipped"]
            if told != len(set(ids)):
                self._wrong(f"the Redrive {name} asked for {len(set(ids))} letters and was told of {told}: {status}")


def letter_states(status: dict[str, Any]) -> LetterStates:
    """What the status of a queue counts."""
    letters = status["letters"]
    claimed = letters["claimed"] + letters["reprocessing"]
    return LetterStates(letters["open"], claimed, letters["resolved"], letters["archived"])


def is_over(redrive: Body) -> bool:
    """It was answered for good."""
    return any(condition_of(redrive, kind)["status"] == "True" for kind in ("Complete", "Failed"))
