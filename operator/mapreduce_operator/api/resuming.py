"""What is asked of a job that has run before: to go back to a checkpoint, or to run a phase again."""

from typing import Annotated

from pydantic import Field

from mapreduce_operator.api.enums import RestartPhase
from mapreduce_operator.api.model import Model

CheckpointNumber = Annotated[int, Field(ge=0, le=9_999_999_999)]
"""The sequence number of a checkpoint."""


class Restore(Model):
    """Takes the job back to where it was at one of its checkpoints: what ended after it is run again.

    It is done once, while the job is suspended and none of its agents runs; status.restore says that it was done. The
    checkpoints after it stay, so that one can also go forward again. Which ones there are stands in
    status.checkpoint.kept. One that is not there, or is damaged, is refused for good.
    """

    checkpoint: CheckpointNumber
    """Sequence number of the checkpoint."""

    token: str = Field(default="", max_length=63)
    """Any text. The same checkpoint is restored again, or asked for again, when the token changes."""


class Restart(Model):
    """Runs a phase of the job again, and those after it.

    It is done once for each token; status.restart says that it was done.
    """

    phase: RestartPhase
    """Plan: the input is read again; items that have succeeded keep their results as long as they are in the input and
    unchanged. The job must be suspended or have ended, with no agent running. Map: the items that were given up are run
    again, as resumePolicy says; no success is dropped. Reduce: the reduce runs again over the results as they are, or,
    while the map runs, when that is over.
    """

    token: str = Field(min_length=1, max_length=63)
    """Any text. The phase is run once more when the token changes."""


class ResumePolicy(Model):
    """What becomes of the items that were given up when a phase is run again or the job is a fork."""

    include_failed: bool = True
    """Whether the items that were left out (Skipped) are run again."""

    include_dead_letters: bool = True
    """Whether the items in the dead letter queue are run again."""

    additional_attempts: int | None = Field(default=None, ge=1, le=100)
    """How many attempts each of them is granted on top of those that it had. Without it, as many as
    map.retry.maxAttempts.
    """
