"""The end of waiting for a job that cannot begin until somebody mends it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from mapreduce_operator.cli.errors import CommandError
from mapreduce_operator.cli.objects import condition, has_finished, holds, is_current, status_of
from mapreduce_operator.cli.session import Body, Session

_PATIENCE_SECONDS: Final = 10.0
"""For what is not found: whoever applies several objects may be about to make it."""


@asynccontextmanager
async def given_up(session: Session) -> AsyncIterator[Callable[[Body], None]]:
    """For waiting within: takes the job each time it changes.

    Raises CommandError as soon as it is Stalled before it is planned; after a while only, where something is missing.
    """
    limit, known = asyncio.timeout(None), ""
    seen: Body = {}

    def look(body: Body) -> None:
        nonlocal known, seen
        seen, reason = body, _stalled(body)
        if reason != known:
            patience = _PATIENCE_SECONDS if reason.endswith("NotFound") else 0.0
            limit.reschedule(asyncio.get_running_loop().time() + patience if reason else None)
        known = reason

    try:
        async with limit:
            yield look
    except TimeoutError as error:
        if not limit.expired():
            raise
        name, found = seen["metadata"]["name"], condition(seen, "Stalled")
        raise CommandError(
            f"{name} cannot begin: {found['reason']}: {found['message']}. It is there, and begins when that is mended: "
            f"{session.advised(f'watch {name}')} shows it"
        ) from error


def _stalled(body: Body) -> str:
    """The reason why a job that is not planned waits for somebody; "" where it does not."""
    waits = is_current(body) and holds(body, "Stalled") and not has_finished(body) and "items" not in status_of(body)
    return str(condition(body, "Stalled")["reason"]) if waits else ""
