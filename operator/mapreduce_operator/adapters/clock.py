"""Time as the machine tells it, without its jumps."""

import time
from typing import Final


class SystemClock:
    """`Clock` of the real world: the machine's time when it was made, and what has passed since by a steady clock.

    A machine's time that is set, by a person or a time service, would fire what waits for a moment too early or let it
    wait for hours. So a step that happens while the process lives is not followed until its restart.
    """

    def __init__(self) -> None:
        self._started: Final = time.time() - time.monotonic()

    def now(self) -> float:
        return self._started + time.monotonic()
