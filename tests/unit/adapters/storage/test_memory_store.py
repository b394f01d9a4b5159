import pytest

from mapreduce_operator.adapters.storage import MemoryStore
from tests.conformance.object_store import ObjectStoreConformance, Reopen


class TestMemoryStore(ObjectStoreConformance):
    @pytest.fixture
    def reopen(self) -> Reopen:
        store = MemoryStore()
        return lambda: store
