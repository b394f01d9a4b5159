import pytest

from mapreduce_operator.adapters.storage import MeasuredStore, MemoryStore
from mapreduce_operator.ports import StorageConflictError, StorageError, StorageErrorReason
from tests.conformance.object_store import ObjectStoreConformance, Reopen


class TestMeasuredStore(ObjectStoreConformance):
    @pytest.fixture
    def reopen(self) -> Reopen:
        store = MeasuredStore(MemoryStore(), lambda _operation, _result, _seconds: None)
        return lambda: store


class Full(MemoryStore):
    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        if data:
            raise StorageError("no space left", StorageErrorReason.FULL)
        return await super().put(key, data, if_absent=if_absent, if_match=if_match)


async def test_each_operation_is_told_of_with_what_came_of_it() -> None:
    told: list[tuple[str, str]] = []

    def observe(operation: str, result: str, seconds: float) -> None:
        told.append((operation, result))
        assert 0 <= seconds < 30

    store = MeasuredStore(Full(), observe)
    await store.get("a")
    await store.put("a", b"")
    await store.get("a")
    with pytest.raises(StorageConflictError):
        await store.put("a", b"", if_absent=True)
    with pytest.raises(StorageError):
        await store.put("b", b"much")
    async for _ in store.list(""):
        assert told[-1] == ("list", "success"), "whoever goes through the keys takes his own time"
    await store.delete(["a", "b"])

    assert told == [
        ("get", "not_found"),
        ("put", "success"),
        ("get", "success"),
        ("put", "conflict"),
        ("put", "StorageFull"),
        ("list", "success"),
        ("delete", "success"),
    ]
