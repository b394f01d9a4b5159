from pathlib import Path

import pytest

from mapreduce_operator.adapters.storage import S3Options, open_store


@pytest.mark.parametrize("host", ["", "localhost"])
async def test_a_file_url_opens_a_store_in_that_folder(tmp_path: Path, host: str) -> None:
    store = open_store(f"file://{host}{tmp_path}/with%20space/store")

    await store.put("head.json", b"{}")

    assert (tmp_path / "with space" / "store" / "head.json").read_bytes() == b"{}"
    await store.close()


@pytest.mark.parametrize("url", ["", "/data", "s4://bucket", "ftp://host/folder", "memory:"])
def test_other_schemes_are_refused_by_naming_the_supported(url: str) -> None:
    with pytest.raises(ValueError, match="supported are file:///folder and s3://bucket/prefix"):
        open_store(url)


@pytest.mark.parametrize(
    "url", ["file:", "file:data", "file://data/store", "file://", "file:///data?x=1", "file:///a#b"]
)
def test_a_file_url_names_a_whole_path(url: str) -> None:
    with pytest.raises(ValueError, match="three slashes"):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("s3://", "names no bucket"),
        ("s3:///prefix", "names no bucket"),
        ("s3:bucket", "names no bucket"),
        ("s3://ab", "'ab' is no name of a bucket"),
        ("s3://" + "a" * 64, "is no name of a bucket"),
        ("s3://My_Bucket/x", "'My_Bucket' is no name of a bucket"),
        ("s3://-bucket", "is no name of a bucket"),
        ("s3://two..dots", "is no name of a bucket"),
        ("s3://seaweedfs:8333/bucket", "goes into MAPREDUCE_S3_ENDPOINT"),
        ("s3://bucket?endpoint=http://other", r"has a '\?' or a '#'"),
        ("s3://bucket/prefix#part", r"has a '\?' or a '#'"),
        ("s3://bucket/a//b", "prefix cannot begin a key. The parts"),
        ("s3://bucket/../other", "prefix cannot begin a key. The parts"),
        ("s3://bucket/umlaut-\u00e4", "printable ASCII"),
        ("s3://bucket/" + "x/" * 129, "more than 256 characters"),
    ],
)
def test_an_s3_url_names_a_bucket_and_perhaps_a_prefix(url: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        open_store(url)


@pytest.mark.parametrize(
    ("endpoint", "wrong"),
    [
        ("seaweedfs:8333", "'seaweedfs:8333'; write it like https://host:port"),
        ("ftp://seaweedfs", "write it like"),
        ("http://", "write it like"),
        ("http://seaweedfs:8333?x=1", "write it like"),
    ],
)
def test_an_endpoint_is_the_url_of_a_service(endpoint: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        open_store("s3://bucket", S3Options(endpoint=endpoint))


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("s3://AKIAEXAMPLE:topsecret@bucket", ""),
        ("s3://topsecret@bucket/prefix", ""),
        ("s3://bucket", "https://AKIAEXAMPLE:topsecret@host:8333"),
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(url: str, endpoint: str) -> None:
    with pytest.raises(ValueError, match="AWS_SECRET_ACCESS_KEY") as refused:
        open_store(url, S3Options(endpoint=endpoint))

    assert "topsecret" not in str(refused.value)
    assert "AKIAEXAMPLE" not in str(refused.value)
