"""A dead letter: an item that was given up, with the story of every dispatch that it had.

Its body is one object in storage. Where the letter stands, open or resolved, is not written there: that follows from
the item in the ledger, so that the two cannot disagree. A body is written again when its item fails again, and may be
written twice for the same failure; merging what was there with what is new makes both safe.
"""

from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec

from mapreduce_operator.api import Cause, Reason
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.workloads import Dispatch

SCHEMA_VERSION: Final = 1
HISTORY: Final = 200
"""How many dispatches a body tells of: the first one, and the newest."""

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class LetterError(Exception):
    """A body that is damaged, or that a newer operator wrote."""


class Attempt(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True
):
    """One dispatch of the item: an attempt, or an interruption."""

    dispatch: int
    verdict: Verdict
    reason: Reason | None = None
    """None only for a success."""
    exit_code: int | None = None
    message: str = ""
    log_tail: str = ""
    job: str = ""
    pod: str = ""
    node: str = ""
    revision: str = ""
    """Of the template."""
    redrive: str = ""
    """Name of the Redrive that ran it; empty for the job itself."""
    redrive_number: int = 0
    """Which one of that name, and of all of the job: they are numbered from 1."""
    started_at: Moment | None = None
    """None where the agent is not known to have started."""
    ended_at: Moment

    @classmethod
    def of(cls, outcome: Outcome, *, redrive: str = "", redrive_number: int = 0) -> "Attempt":
        """What a letter tells of an outcome."""
        return cls(
            dispatch=outcome.dispatch.number,
            verdict=outcome.verdict,
            reason=outcome.reason,
            exit_code=outcome.exit_code,
            message=outcome.message,
            job=outcome.job,
            pod=outcome.pod,
            node=outcome.node,
            revision=outcome.revision,
            redrive=redrive,
            redrive_number=redrive_number,
            started_at=moment(outcome.started_at) if outcome.started_at else None,
            ended_at=moment(outcome.ended_at),
        )

    def as_outcome(self, key: str) -> Outcome:
        """The outcome that this tells of, but for the result; `key` is that of the item."""
        return Outcome(
            stage=Stage.MAP,
            dispatch=Dispatch(key, self.dispatch),
            job_uid=f"{key}-{self.dispatch}",
            verdict=self.verdict,
            reason=self.reason,
            message=self.message,
            exit_code=self.exit_code,
            revision=self.revision,
            node=self.node,
            ended_at=self.ended_at.timestamp(),
        )


class Letter(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="schemaVersion",
    tag=SCHEMA_VERSION,
):
    """The item, why it was given up, and its history. Message, reason and signature are those of the last dispatch."""

    id: str
    key: str
    position: int
    payload: msgspec.Raw
    cause: Cause
    reason: Reason
    exit_code: int | None = None
    message: str = ""
    signature_id: str = ""
    signature: str = ""
    first_attempt_at: Moment
    """When the first dispatch began, or ended if nobody saw it begin."""
    last_attempt_at: Moment
    """When the last dispatch ended."""
    attempts: int
    interruptions: int = 0
    node: str = ""
    history: tuple[Attempt, ...] = ()
    """Ascending by number of dispatch."""
    omitted: int = 0
    """Dispatches that the history does not tell of."""
    redrives: dict[int, str] = msgspec.field(default_factory=dict)
    """The Redrives that tried it, by number, with their names, which may be the same."""


class _Versioned(msgspec.Struct, rename="camel"):
    schema_version: int


_version_decoder: Final = msgspec.json.Decoder(_Versioned)
_decoder: Final = msgspec.json.Decoder(Letter)


def moment(seconds: float) -> datetime:
    """A point in time, in milliseconds, from seconds since the epoch."""
    return datetime.fromtimestamp(round(seconds, 3), UTC)


def encode_letter(letter: Letter) -> bytes:
    return msgspec.json.encode(letter) + b"\n"


def decode_letter(data: bytes, where: str) -> Letter:
    """Raises LetterError for a body that is damaged or too new."""
    try:
        version = _version_decoder.decode(data).schema_version
        if version > SCHEMA_VERSION:
            raise LetterError(
                f"{where} has schema version {version}, this operator knows {SCHEMA_VERSION}: "
                "run the newer operator again"
            )
        return _decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise LetterError(
            f"{where} is damaged: {error}. Restore the object, or delete it: the item is safe in the plan and the "
            "journal, only the history of its failures is lost"
        ) from error


def merged(before: Letter | None, now: Letter) -> Letter:
    """The body to write: the later state of the item, with the first attempt and all dispatches that either knows.

    Which state is later is told by the number of dispatches, not by who writes last: a write that comes late takes
    nothing back. Of another course, which a fork that had to begin anew left behind, nothing counts.
    """
    if before is None or not _of_one_course(before, now):
        before = now
    if before.key != now.key:
        raise ValueError(f"letters of two items, {before.key} and {now.key}, cannot be merged")
    older, newer = (before, now) if _dispatches(before) <= _dispatches(now) else (now, before)
    known = {one.dispatch: one for one in older.history}
    for one in newer.history:
        known[one.dispatch] = _fuller(known[one.dispatch], one) if one.dispatch in known else one
    history = [known[number] for number in sorted(known)]
    if len(history) > HISTORY:
        history = [history[0], *history[1 - HISTORY :]]
    return msgspec.structs.replace(
        newer,
        first_attempt_at=min(older.first_attempt_at, newer.first_attempt_at),
        history=tuple(history),
        omitted=history[-1].dispatch - len(history) if history else 0,
        redrives=dict(sorted((older.redrives | newer.redrives).items())),
    )


def _of_one_course(before: Letter, now: Letter) -> bool:
    """No dispatch was run by different Jobs: in one run the number says the name."""
    jobs = {one.dispatch: one.job for one in before.history}
    return all(jobs.get(one.dispatch, "") in {"", one.job} or not one.job for one in now.history)


def _dispatches(letter: Letter) -> int:
    return letter.attempts + letter.interruptions


def _fuller(before: Attempt, now: Attempt) -> Attempt:
    """The same dispatch told twice: what the second account leaves open is taken from the first."""
    # How a dispatch was judged is one statement: half of one and half of another would be a lie.
    same = (before.verdict, before.reason) == (now.verdict, now.reason)
    judgement = set() if same else {"reason", "exit_code", "message"}
    gaps = {name for name in Attempt.__struct_fields__ if getattr(now, name) in {"", None}} - judgement
    return msgspec.structs.replace(now, **{name: getattr(before, name) for name in gaps})
