from pathlib import Path

import pytest

from mapreduce_operator.adapters.storage import open_store


@pytest.mark.parametrize("host", ["", "localhost"])
async def test_a_file_url_opens_a_store_in_that_folder(tmp_path: Path, host: str) -> None:
    store = open_store(f"file://{host}{tmp_path}/with%20space/store")

    await store.put("head.json", b"{}")

    assert (tmp_path / "with space" / "store" / "head.json").read_bytes() == b"{}"
    await store.close()


@pytest.mark.parametrize("url", ["", "/data", "s3://bucket", "ftp://host/folder", "memory:"])
def test_other_schemes_are_refused_by_naming_the_supported(url: str) -> None:
    with pytest.raises(ValueError, match="supported is file:///"):
        open_store(url)


@pytest.mark.parametrize(
    "url", ["file:", "file:data", "file://data/store", "file://", "file:///data?x=1", "file:///a#b"]
)
def test_a_file_url_names_a_whole_path(url: str) -> None:
    with pytest.raises(ValueError, match="three slashes"):
        open_store(url)
