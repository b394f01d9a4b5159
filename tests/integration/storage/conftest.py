"""One SeaweedFS for all tests here, and credentials for it in the environment, where the store looks for them."""

from collections.abc import Iterator

import pytest
from botocore.loaders import create_loader

from tests.seaweedfs import UNGUARDED_BUCKET, SeaweedFS

BUCKET = "state"


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    with SeaweedFS(tmp_path_factory.mktemp("seaweedfs")) as seaweedfs:
        seaweedfs.make_bucket(BUCKET)
        seaweedfs.make_bucket(UNGUARDED_BUCKET)
        yield seaweedfs


@pytest.fixture(scope="session", autouse=True)
def description_of_s3_is_read_once() -> Iterator[None]:
    """Halves the time that a new store takes; whole processes do with one, tests make a hundred."""
    with pytest.MonkeyPatch.context() as patch:
        loader = create_loader()
        patch.setattr("botocore.session.create_loader", lambda _: loader)
        yield


@pytest.fixture(autouse=True)
def credentials(seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing of the machine's own configuration.
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    for name, value in seaweedfs.environment.items():
        monkeypatch.setenv(name, value)
