"""What people ask of a run once: to go back to a checkpoint, or to run a phase again. Answers are part of checkpoints.

A request is known by its content: the same one is answered once, however often it is seen.
"""

from mapreduce_operator.api import MapReduceJobSpec, MapReduceJobStatus, Restart, Restore
from mapreduce_operator.core.checkpoint import Answers, RefusedRestore, Restarted, Restored

Told = tuple[bool, str, str]
"""Status, reason and message of a condition."""


def answers_in(status: MapReduceJobStatus | None) -> Answers:
    """What a status says that was answered, where nothing else does."""
    if status is None:
        return Answers()
    restore, restart = status.restore, status.restart
    return Answers(
        checkpoint=status.checkpoint.token if status.checkpoint else "",
        restored=Restored(restore.checkpoint, restore.token, restore.time.timestamp(), restore.sequence)
        if restore
        else None,
        restarted=Restarted(restart.phase, restart.token, restart.time.timestamp()) if restart else None,
    )


def later(one: Answers, other: Answers) -> Answers:
    """Of each kind of answer the later one."""
    restored = [done for done in (one.restored, other.restored) if done is not None]
    restarted = [done for done in (one.restarted, other.restarted) if done is not None]
    return Answers(
        checkpoint=one.checkpoint or other.checkpoint,
        restored=max(restored, key=lambda done: done.at, default=None),
        restarted=max(restarted, key=lambda done: done.at, default=None),
        refused=one.refused or other.refused,
    )


def open_restore(spec: MapReduceJobSpec, answers: Answers) -> Restore | None:
    """The restore that was asked for and neither done nor refused."""
    asked = spec.restore
    return None if asked is None or any(_is_about(asked, one) for one in (answers.restored, answers.refused)) else asked


def _is_about(asked: Restore, answer: Restored | RefusedRestore | None) -> bool:
    return answer is not None and (answer.checkpoint, answer.token) == (asked.checkpoint, asked.token)


def open_restart(spec: MapReduceJobSpec, answers: Answers) -> Restart | None:
    """The restart that was asked for and not done."""
    asked, done = spec.restart, answers.restarted
    if asked is None or (done is not None and (done.phase, done.token) == (asked.phase, asked.token)):
        return None
    return asked


def asks_of_ended(spec: MapReduceJobSpec, status: MapReduceJobStatus) -> bool:
    """Whether a run that has ended, and left this status, is asked for something that can be done."""
    answers = answers_in(status)
    return open_restart(spec, answers) is not None or (spec.suspend and open_restore(spec, answers) is not None)


def restored_condition(spec: MapReduceJobSpec, answers: Answers, waits: tuple[str, str] | None) -> Told | None:
    """The condition Restored; None where nobody asked. `waits`: why it is not done yet, as (reason, message)."""
    if spec.restore is None:
        return None
    if _is_about(spec.restore, answers.restored):
        return True, "Restored", f"the job went back to checkpoint {spec.restore.checkpoint}"
    if answers.refused is not None and _is_about(spec.restore, answers.refused):
        advice = "It is not tried again: ask for another checkpoint, or with another token"
        return False, answers.refused.reason, f"{answers.refused.message}. {advice}"
    return False, *(waits or ("Waiting", f"the job is about to go back to checkpoint {spec.restore.checkpoint}"))


def restarted_condition(
    spec: MapReduceJobSpec, answers: Answers, waits: tuple[str, str] | None, outcome: str
) -> Told | None:
    """The condition Restarted; None where nobody asked. `outcome`: what came of it, where it was done."""
    if spec.restart is None:
        return None
    if open_restart(spec, answers) is None:
        return True, "Restarted", outcome
    return False, *(waits or ("Waiting", f"the phase {spec.restart.phase} is about to begin again"))
