"""Where requests go and how they are signed, by what an administrator sets. None is sent."""

import io
from base64 import b64encode
from hashlib import md5, sha256

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from urllib3 import HTTPResponse

from mapreduce_operator.adapters.storage import S3Options, S3Store

AWS = "s3.eu-central-1.amazonaws.com"
OTHER = "http://seaweedfs:8333"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


async def request_of(store: S3Store) -> AWSPreparedRequest:
    seen: list[AWSPreparedRequest] = []

    def before_send(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        seen.append(request)
        return AWSResponse(
            request.url, 200, HTTPHeaders.from_dict({"ETag": '"1"'}), HTTPResponse(io.BytesIO(), preload_content=False)
        )

    # The stubs do not know that who answers here keeps the request from being sent.
    store._client.meta.events.register("before-send.s3", before_send)  # type: ignore[arg-type]
    await store.put("team/head.json", b"{}")
    await store.close()
    return seen[0]


@pytest.mark.parametrize(
    ("bucket", "options", "url"),
    [
        ("state", S3Options(region="eu-central-1"), f"https://state.{AWS}/jobs/team/head.json"),
        ("state", S3Options(region="eu-central-1", path_style=True), f"https://{AWS}/state/jobs/team/head.json"),
        # A name with dots does not match the certificate of *.s3.amazonaws.com.
        ("state.v2", S3Options(region="eu-central-1"), f"https://{AWS}/state.v2/jobs/team/head.json"),
        ("state", S3Options(endpoint=OTHER), f"{OTHER}/state/jobs/team/head.json"),
        ("state", S3Options(endpoint=OTHER, path_style=True), f"{OTHER}/state/jobs/team/head.json"),
        ("state", S3Options(endpoint=OTHER, path_style=False), "http://state.seaweedfs:8333/jobs/team/head.json"),
    ],
)
async def test_a_bucket_is_addressed_by_host_or_by_path(bucket: str, options: S3Options, url: str) -> None:
    request = await request_of(S3Store(bucket, "jobs", options))

    assert request.url == url


@pytest.mark.parametrize(
    ("options", "region"),
    [
        (S3Options(endpoint=OTHER), "us-east-1"),
        (S3Options(endpoint=OTHER, region="garage"), "garage"),
        (S3Options(region="eu-central-1"), "eu-central-1"),
    ],
)
async def test_requests_are_signed_for_the_region(options: S3Options, region: str) -> None:
    request = await request_of(S3Store("state", "", options))

    assert f"/{region}/s3/aws4_request" in str(request.headers["Authorization"])


async def test_the_environment_names_the_region_if_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")

    request = await request_of(S3Store("state"))

    assert request.url == "https://state.s3.eu-west-3.amazonaws.com/team/head.json"


@pytest.mark.parametrize("endpoint", [OTHER, OTHER.replace("http:", "https:")])
async def test_what_is_written_is_signed_and_has_a_checksum(endpoint: str) -> None:
    request = await request_of(S3Store("state", "", S3Options(endpoint=endpoint)))

    assert request.headers["X-Amz-Content-SHA256"] == sha256(b"{}").hexdigest().encode()
    assert request.headers["Content-MD5"] == b64encode(md5(b"{}", usedforsecurity=False).digest())


async def test_no_checksums_are_sent_that_a_service_may_not_know() -> None:
    request = await request_of(S3Store("state", "", S3Options(endpoint=OTHER)))

    assert [name for name in request.headers if "checksum" in name.lower() or "trailer" in name.lower()] == []
