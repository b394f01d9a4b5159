"""Checkpoints over a store in memory, one on a volume, and one in a bucket of a real S3 service."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mapreduce_operator.adapters.storage import FileStore, MemoryStore, OpenedStore, S3Options, open_store
from mapreduce_operator.ports import ObjectStore
from tests.conformance.checkpointer import CheckpointerConformance
from tests.integration.storage.conftest import BUCKET
from tests.seaweedfs import SeaweedFS


class TestCheckpointsInMemory(CheckpointerConformance):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return MemoryStore()


class TestCheckpointsInFiles(CheckpointerConformance):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[ObjectStore]:
        store = FileStore(tmp_path)
        yield store
        await store.close()


class TestCheckpointsInABucket(CheckpointerConformance):
    @pytest.fixture
    async def store(self, seaweedfs: SeaweedFS) -> AsyncIterator[OpenedStore]:
        store = open_store(f"s3://{BUCKET}/checkpoints/{secrets.token_hex(8)}", S3Options(endpoint=seaweedfs.url))
        yield store
        await store.close()
