from collections.abc import Callable, Mapping

import pytest

from tests.simulation.timeline import JumpingLoop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], JumpingLoop]]:
    """Every simulation runs on the loop whose clock jumps."""
    del config, item
    return {"jumping": JumpingLoop}
