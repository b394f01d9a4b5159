"""Object stores: on a volume, in memory."""

from mapreduce_operator.adapters.storage.file import FileStore
from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.adapters.storage.opening import OpenedStore, open_store

__all__ = ["FileStore", "MemoryStore", "OpenedStore", "open_store"]
