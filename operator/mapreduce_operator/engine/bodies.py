"""Writes the body of a dead letter where there may be one already."""

import logging
from collections.abc import Callable

from mapreduce_operator.core.letters import Letter, LetterError, decode_letter, encode_letter
from mapreduce_operator.ports import ObjectStore, StorageConflictError

log = logging.getLogger(__name__)


async def write_body(store: ObjectStore, where: str, composed: Callable[[Letter | None], Letter]) -> None:
    """Writes what `composed` makes of the body that is there, and over no other one: a former leader may write too.

    Raises StorageError.
    """
    for last in (False, False, True):
        stored = await store.get(where)
        try:
            before = decode_letter(stored.data, where) if stored is not None else None
        except LetterError as error:
            # What was damaged on its way here must not be written over what is there.
            if not last:
                continue
            log.warning("%s; it is written anew, without what it told before", error)
            before = None
        body = encode_letter(composed(before))
        try:
            if stored is None:
                await store.put(where, body, if_absent=True)
            elif stored.data != body:
                await store.put(where, body, if_match=stored.etag)
        except StorageConflictError:
            if last:
                raise
        else:
            return
