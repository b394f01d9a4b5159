"""Object stores: on a volume, in a bucket, in memory."""

from mapreduce_operator.adapters.storage.file import FileStore
from mapreduce_operator.adapters.storage.measured import MeasuredStore
from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.adapters.storage.opening import OpenedStore, open_store
from mapreduce_operator.adapters.storage.s3 import S3Options, S3Store

__all__ = ["FileStore", "MeasuredStore", "MemoryStore", "OpenedStore", "S3Options", "S3Store", "open_store"]
