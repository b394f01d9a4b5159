"""What is seen of a run from outside: its Jobs, its statuses, and what its agents say of themselves."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Any, Final, Self

from kubernetes import client, watch
from urllib3.exceptions import HTTPError

from tests.chaos.agents import Listener, Said, attempts_of
from tests.e2e.sandbox import GROUP, PLURAL, VERSION, Body

_WATCH_SECONDS: Final = 5
_RECONNECT_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Written:
    """A status, and when by the monotonic clock it was seen first."""

    at: float
    status: Body


class Witness:
    """Sees and hears everything in one namespace, from before the first Job and whoever is killed meanwhile."""

    def __init__(self, namespace: str, host: str) -> None:
        self._namespace: Final = namespace
        self._news: Final = threading.Condition()
        self._closed: Final = threading.Event()
        self.listener: Final = Listener(host, self._heard)
        self.said: Final[list[Said]] = []
        self.jobs: Final[dict[str, dict[str, float]]] = defaultdict(dict)
        """Name to uids, each with the moment at which it was seen first."""
        self.written: Final[list[Written]] = []
        batch, objects = client.BatchV1Api(), client.CustomObjectsApi()
        watches: list[tuple[Callable[..., Any], tuple[str, ...], Callable[[Any], None]]] = [
            (batch.list_namespaced_job, (namespace,), self._saw_job),
            (objects.list_namespaced_custom_object, (GROUP, VERSION, namespace, PLURAL), self._saw_status),
        ]
        self._threads: Final = [threading.Thread(target=self._watch, args=one) for one in watches]
        self._threads.append(threading.Thread(target=self.listener.serve_forever, args=(0.1,)))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closed.set()
        self.listener.gate.set()
        self.listener.shutdown()
        self.listener.server_close()
        for thread in self._threads:
            thread.join(2 * _WATCH_SECONDS)

    # ----------------------------------------------------------------------------------------------------- waiting

    def until(self, what: str, holds: Callable[[], bool], seconds: float = 60) -> float:
        """Waits until it is so, looking again at each piece of news; returns how many seconds that took."""
        begun = time.monotonic()
        with self._news:
            met = self._news.wait_for(holds, seconds)
        assert met, f"waited {seconds:.0f} s in vain for: {what}"
        return time.monotonic() - begun

    def until_finished(self, seconds: float = 180) -> Body:
        """Waits for the end of the run, good or bad; returns its status."""
        self.until("the end of the job", lambda: "completionTime" in self.status, seconds)
        return self.status

    # -------------------------------------------------------------------------------------------------- what is so

    @property
    def status(self) -> Body:
        return self.written[-1].status if self.written else {}

    @property
    def epoch(self) -> int:
        """Of the leader who wrote the status last."""
        epoch: int = self.status.get("leaderEpoch", 0)
        return epoch

    @property
    def ended(self) -> list[Said]:
        """What agents said of their ends: each is an attempt that was made."""
        return [said for said in self.said if said.word != "began"]

    def begun(self, dispatch: int) -> set[int]:
        """The items whose agent began that dispatch."""
        return {said.item for said in self.said if said.word == "began" and said.dispatch == dispatch}

    def assert_each_item_counted_once(self, items: int, *, interruptions: int = 0) -> None:
        """What the operator says at the end is what the agents did, and nothing was done twice."""
        twice = {name: list(uids) for name, uids in self.jobs.items() if len(uids) > 1}
        assert not twice, f"Jobs of these names were created more than once: {twice}"
        begun = Counter((said.item, said.dispatch) for said in self.said if said.word == "began")
        again = {dispatch: times for dispatch, times in begun.items() if times > 1}
        assert not again, f"dispatches (item, number) that ran more than once: {again}"
        expected = {item: attempts_of(item) for item in range(items)}
        assert sorted((said.item, said.attempt, said.word) for said in self.ended) == [
            (item, attempt, word) for item, words in expected.items() for attempt, word in enumerate(words, 1)
        ]
        status, good = self.status, sum("succeeded" in words for words in expected.values())
        states = {"total": items, "succeeded": good, "deadLettered": items - good}
        assert {state: number for state, number in status["items"].items() if number} == {
            state: number for state, number in states.items() if number
        }
        retries = sum(len(words) - 1 for words in expected.values())
        assert status["attempts"] == {"total": len(self.ended), "interruptions": interruptions, "retries": retries}
        self._assert_no_status_takes_anything_back()

    def _assert_no_status_takes_anything_back(self) -> None:
        counts = [
            (
                status.get("leaderEpoch", 0),
                status["attempts"]["total"],
                status["attempts"]["interruptions"],
                status["items"]["succeeded"],
            )
            for status in (one.status for one in self.written)
            if "items" in status
        ]
        for before, after in pairwise(counts):
            assert all(a <= b for a, b in zip(before, after, strict=True)), (
                f"a status took something back (epoch, attempts, interruptions, succeeded): {before}, then {after}"
            )

    def account(self) -> str:
        """Everything that was seen and heard, in the order of time."""
        start = min((said.at for said in self.said), default=0.0)
        lines = [
            (said.at, f"agent   {said.word} item {said.item} d{said.dispatch} a{said.attempt}") for said in self.said
        ]
        lines += [(at, f"job     {name} {uid}") for name, uids in self.jobs.items() for uid, at in uids.items()]
        for one in self.written:
            shown = {key: one.status.get(key) for key in ("phase", "active", "items", "attempts", "leaderEpoch")}
            lines.append((one.at, f"status  {shown}"))
        return "\n".join(f"{at - start:8.2f} {line}" for at, line in sorted(lines))

    # -------------------------------------------------------------------------------------------------------- news

    def _heard(self, said: Said) -> None:
        with self._news:
            self.said.append(said)
            self._news.notify_all()

    def _saw_job(self, job: Any) -> None:
        with self._news:
            self.jobs[job.metadata.name].setdefault(job.metadata.uid, time.monotonic())
            self._news.notify_all()

    def _saw_status(self, body: Any) -> None:
        with self._news:
            if (status := body.get("status", {})) != self.status:
                self.written.append(Written(time.monotonic(), status))
                self._news.notify_all()

    def _watch(self, function: Callable[..., Any], arguments: tuple[str, ...], saw: Callable[[Any], None]) -> None:
        """Watches until closed; a stream that breaks goes on where it was, as far as the server remembers."""
        version: str | None = None
        while not self._closed.is_set():
            stream = watch.Watch()  # type: ignore[no-untyped-call]
            since = {} if version is None else {"resource_version": version}
            try:
                for event in stream.stream(function, *arguments, timeout_seconds=_WATCH_SECONDS, **since):  # type: ignore[no-untyped-call]
                    saw(event["object"])
                version = stream.resource_version
            except client.ApiException as error:
                version = None if error.status == 410 else version
                self._closed.wait(_RECONNECT_SECONDS)
            except HTTPError:
                self._closed.wait(_RECONNECT_SECONDS)
