"""Threads that hang: what is given up leaves nothing behind, and what is under way is told to nobody."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Iterator

import pytest

from mapreduce_operator.adapters.storage.workers import Workers

THREADS = 3


@pytest.fixture
def free() -> Iterator[threading.Event]:
    free = threading.Event()
    yield free
    free.set()


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    workers = Workers("test", THREADS, seconds=2.0)
    yield workers
    await workers.close()


class Data:
    """A batch, as large as may be."""


async def test_work_that_never_had_a_thread_is_given_up_with_all_that_it_holds(
    workers: Workers, free: threading.Event
) -> None:
    done = list[Data]()
    hanging = [asyncio.ensure_future(workers.run(free.wait)) for _ in range(THREADS)]

    async def give_up() -> weakref.ref[Data]:
        data = Data()
        with pytest.raises(TimeoutError):
            await workers.run(lambda: done.append(data))
        return weakref.ref(data)

    given_up = await asyncio.gather(*(give_up() for _ in range(20)))
    await asyncio.gather(*hanging, return_exceptions=True)

    gc.collect()
    assert [one() for one in given_up] == [None] * 20
    free.set()
    assert await workers.run(lambda: "works") == "works"
    assert done == []


async def test_a_thread_that_comes_back_serves_again(workers: Workers, free: threading.Event) -> None:
    ends = await asyncio.gather(*(workers.run(free.wait) for _ in range(THREADS)), return_exceptions=True)
    assert [type(end) for end in ends] == [TimeoutError] * THREADS

    free.set()

    assert await asyncio.gather(*(workers.run(lambda: 1) for _ in range(10))) == [1] * 10


async def test_an_error_of_work_that_was_given_up_troubles_nobody(workers: Workers, free: threading.Event) -> None:
    complaints = list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    def fails() -> None:
        free.wait()
        raise OSError

    with pytest.raises(TimeoutError):
        await workers.run(fails)
    free.set()
    await workers.close()

    gc.collect()
    assert complaints == []
