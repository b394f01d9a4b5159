import asyncio
import os

import hypothesis
import pytest

# pytest explains failed asserts in test modules by itself, in a suite that they import only when told.
pytest.register_assert_rewrite(
    "tests.conformance.object_store", "tests.conformance.checkpointer", "tests.conformance.written_run"
)

# How long an example takes, or its making, says something of the machine and nothing of the code. The examples are the
# same each time, so that a red run is about the change; HYPOTHESIS_PROFILE=explore looks for new ones.
hypothesis.settings.register_profile("explore", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("tests", hypothesis.settings.get_profile("explore"), derandomize=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tests"))


@pytest.fixture(scope="session", autouse=True)
def no_event_loop_by_accident() -> None:
    """Keeps looptime from making a loop that nobody closes.

    It asks the policy for the current loop before every test, and a fresh policy makes one. Where a synchronous test
    comes first, that loop is left to the garbage collector, whose warning then fails some other test.
    """
    asyncio.set_event_loop(None)
