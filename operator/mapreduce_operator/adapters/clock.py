"""Time as the machine tells it."""

import time


class SystemClock:
    """`Clock` of the real world. It may jump when the machine's time is set, so durations are not measured by it."""

    def now(self) -> float:
        return time.time()
