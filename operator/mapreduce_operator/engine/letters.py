"""The bodies of a run's dead letters in storage.

A body is written before the commit that makes its item a dead letter. What is written twice, after a crash or a lost
answer, comes to the same: bodies are merged with what is there.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

import msgspec

from mapreduce_operator.core.batches import GivenUp
from mapreduce_operator.core.letters import Letter, LetterError, merged, moment
from mapreduce_operator.core.names import RunRef, StorageKeys
from mapreduce_operator.core.signatures import signature_of
from mapreduce_operator.engine.bodies import write_body
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.engine.reading import read_letters
from mapreduce_operator.engine.world import World
from mapreduce_operator.ports import ClusterError, StorageError

log = logging.getLogger(__name__)

_AT_ONCE: Final = 8
LOG_SECONDS: Final = 3.0
"""For the ends of all logs of one commit: outcomes must not wait for a kubelet that does not answer."""
LOG_LINES: Final = 40
LOG_BYTES: Final = 4096


class Letters:
    """Reads and writes the letters of one run."""

    def __init__(self, world: World, run: RunRef, journal: Journal) -> None:
        self._world: Final = world
        self._run: Final = run
        self._journal: Final = journal
        self._keys: Final = StorageKeys(run)
        self._logs: dict[str, str] = {}
        self._written: set[str] = set()
        """Which of those that were given together are written, by the uids of the Jobs that failed last."""

    async def write(self, letters: Sequence[GivenUp]) -> None:
        """Raises StorageError when not all of them are known to be written; then all are to be given again."""
        # Of many letters some always fail where storage fails now and then; where it is away, all would.
        left = [letter for letter in letters if letter.outcome.job_uid not in self._written]
        await self._read_logs([letter for letter in left if letter.outcome.pod not in self._logs])
        gate = asyncio.Semaphore(_AT_ONCE)
        in_a_row = 0

        async def write(letter: GivenUp) -> None:
            nonlocal in_a_row
            async with gate:
                if in_a_row >= _AT_ONCE:
                    return
                try:
                    await self._write(letter)
                except StorageError:
                    in_a_row += 1
                    raise
                in_a_row = 0
            self._written.add(letter.outcome.job_uid)

        # Not a task group: it would hide a StorageError in a group.
        for done in await asyncio.gather(*map(write, left), return_exceptions=True):
            if isinstance(done, BaseException):
                raise done
        self._logs.clear()
        self._written.clear()

    async def _write(self, given_up: GivenUp) -> None:
        outcome, item = given_up.outcome, given_up.item
        if item.cause is None or outcome.reason is None:
            raise ValueError(f"item {given_up.position} was not given up")
        planned = await self._journal.plan.item(given_up.position)
        signature = signature_of(outcome.reason, outcome.exit_code, outcome.message)
        *earlier, last = given_up.history
        last = msgspec.structs.replace(last, log_tail=self._logs.get(outcome.pod, ""))
        first = given_up.history[0]
        letter = Letter(
            id=planned.id,
            key=outcome.dispatch.item_key,
            position=given_up.position,
            payload=msgspec.Raw(planned.payload),
            cause=item.cause,
            reason=outcome.reason,
            exit_code=outcome.exit_code,
            message=outcome.message,
            signature_id=signature.id,
            signature=signature.text,
            first_attempt_at=first.started_at or first.ended_at,
            last_attempt_at=moment(outcome.ended_at),
            attempts=item.attempts,
            interruptions=item.interruptions,
            node=outcome.node,
            history=(*earlier, last),
            redrives={last.redrive_number: last.redrive} if last.redrive_number else {},
        )
        await write_body(self._world.store, self._keys.letter(letter.key), lambda before: merged(before, letter))

    async def _read_logs(self, letters: Sequence[GivenUp]) -> None:
        """The end of each agent's last log, as far as it can be had: the Job is deleted after the commit."""

        async def read_log(pod: str) -> None:
            try:
                self._logs[pod] = await self._world.cluster.read_log(
                    self._run.namespace, pod, lines=LOG_LINES, limit=LOG_BYTES
                )
            except ClusterError as error:
                self._logs[pod] = ""
                log.debug("%s/%s: the end of the log of %s is not known: %s", *self._run_name, pod, error)

        pods = [letter.outcome.pod for letter in letters if letter.outcome.pod]
        try:
            async with asyncio.timeout(LOG_SECONDS):
                for first in range(0, len(pods), _AT_ONCE):
                    await asyncio.gather(*map(read_log, pods[first : first + _AT_ONCE]))
        except TimeoutError:
            log.warning("%s/%s: the ends of some logs were not read within %.0f s", *self._run_name, LOG_SECONDS)

    @property
    def _run_name(self) -> tuple[str, str]:
        return self._run.namespace, self._run.name

    def read_all(self, keys: Iterable[str]) -> AsyncIterator[tuple[str, Letter | LetterError | None]]:
        """Each of these keys with its letter, with None for none, or why it cannot be read. Raises StorageError."""
        return read_letters(self._world.store, self._keys, keys)

    async def delete(self, keys: Iterable[str]) -> None:
        """Deletes bodies; what is not there is as good as deleted. Raises StorageError."""
        await self._world.store.delete(self._keys.letter(key) for key in keys)
