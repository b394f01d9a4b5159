import asyncio

import pytest

from tests.simulation.timeline import EPOCH, JumpingLoop, LoopClock, NothingLeftError


def test_time_jumps_and_waiting_for_nothing_is_an_error() -> None:
    async def main() -> None:
        await asyncio.sleep(3600)
        assert asyncio.get_running_loop().time() == 3600
        assert LoopClock(ahead=60).now() == EPOCH + 3660
        await asyncio.get_running_loop().create_future()

    with asyncio.Runner(loop_factory=JumpingLoop) as runner, pytest.raises(NothingLeftError):
        runner.run(main())
