"""Whether a store does what the engine relies on. Asked before a run uses it; one good answer is enough.

Above all a store must refuse a conditional write whose condition does not hold: nothing else keeps a leader that was
deposed, and does not know it yet, from writing over its successor. Some services accept such writes and ignore the
condition, which shows only when it is too late.
"""

import asyncio
from typing import Final

from mapreduce_operator.ports import ObjectStore, StorageConflictError, StorageError, StorageErrorReason

_FOLDER: Final = "_probe/"
"""No run has keys there: theirs begin with a namespace, whose name begins with a letter or a digit."""

_CONSISTENT: Final = "Use a service that is strongly consistent."


class Suitability:
    """Tries a store out, on an object of its own. `token` keeps processes that do so at the same time apart."""

    def __init__(self, store: ObjectStore, token: str) -> None:
        self._store: Final = store
        self._key: Final = f"{_FOLDER}{token}"
        self._turn: Final = asyncio.Lock()
        self._suitable = False
        self._failures = 0
        self._failure: StorageError | None = None

    async def check(self) -> None:
        """Returns once the store is known to be suitable; raises StorageError when it is not, or cannot be asked.

        Those who wait while another one tries share the result of that, and who comes after a failure tries anew.
        """
        failures = self._failures
        async with self._turn:
            if self._suitable:
                return
            if self._failure is not None and self._failures != failures:
                raise self._failure
            try:
                await self._try_out()
            except StorageError as error:
                self._failure, self._failures = error, self._failures + 1
                raise
            self._suitable = True

    async def _try_out(self) -> None:
        """Ends with the verdict and not at the first fault, so that the object is always deleted."""
        store, key = self._store, self._key
        stale = await store.put(key, b"first")
        keeps_what_exists = await self._is_refused(b"second", if_absent=True)
        await store.put(key, b"third")
        keeps_what_is_newer = await self._is_refused(b"fourth", if_match=stale)
        etag = await store.put(key, b"fifth")
        refuses_to_swap = await self._is_refused(b"sixth", if_match=etag)
        found = await store.get(key)
        listed = [name async for name in store.list(key)]
        await store.delete([key])
        left = await store.get(key)
        if not (keeps_what_exists and keeps_what_is_newer):
            raise _unsuitable(
                "does not refuse conditional writes: two operators could write over each other",
                "Use a service that honours If-None-Match and If-Match.",
            )
        # A swap whose answer was lost and that was sent again is refused because of itself: what is there tells.
        if found is None or found.data != b"sixth":
            if refuses_to_swap:
                raise _unsuitable(
                    "refuses to replace the very version that is there", "Use a service that honours If-Match."
                )
            raise _unsuitable("does not give back what was just written", _CONSISTENT)
        if key not in listed:
            raise _unsuitable("does not list what was just written", _CONSISTENT)
        if left is not None:
            raise _unsuitable("keeps what was deleted", _CONSISTENT)

    async def _is_refused(self, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> bool:
        try:
            await self._store.put(self._key, data, if_absent=if_absent, if_match=if_match)
        except StorageConflictError:
            return True
        return False


def _unsuitable(fault: str, cure: str) -> StorageError:
    return StorageError(f"The storage {fault}. {cure}", StorageErrorReason.UNSUITABLE)
