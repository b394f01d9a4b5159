"""gc deletes what is of nobody and old, all of it, and nothing else."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mapreduce_operator.adapters.storage import FileStore
from mapreduce_operator.core.checkpoint import Checkpoint, decode_checkpoint, digest, encode_checkpoint
from mapreduce_operator.core.journal import decode_segment, encode_segment
from mapreduce_operator.core.names import RunRef, StorageKeys, input_key
from mapreduce_operator.gc import main
from mapreduce_operator.ports import StorageError, StorageErrorReason
from tests.conformance.written_run import CRASHED, WrittenRun
from tests.unit.adapters.kube.fake_api import FakeApi, answer, failure, running_fake_api
from tests.unit.core.scenes import RUN

JOBS = "/apis/mapreduce.dev/v1alpha1/mapreducejobs"
QUEUES = "/apis/mapreduce.dev/v1alpha1/deadletterqueues"
INPUT = input_key(RUN.namespace, f"{RUN.name}/head.json")
ALIVE = replace(RUN, name="alive", uid="run-2")
NEW = replace(RUN, namespace="other", uid="run-3")

Call = Callable[..., Coroutine[Any, Any, tuple[int, str, str]]]


def job(run: RunRef, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": run.name, "namespace": run.namespace, "uid": run.uid}, "spec": {}} | more


def in_namespace(path: str, namespace: str) -> str:
    return path.replace("v1alpha1/", f"v1alpha1/namespaces/{namespace}/")


def listing(*items: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": "7"}, "items": list(items)}


def committed_at(head: Checkpoint, time: float) -> bytes:
    return encode_checkpoint(msgspec.structs.replace(head, committed_at=time))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FileStore]:
    """A job that is gone for years, one that is there, one that is gone since a moment ago; and what is of no job."""
    store = FileStore(tmp_path)
    for run in (RUN, ALIVE, NEW):
        written = WrittenRun(store, ["a", "b"], run)
        await written.plan()
        written.runs("a")
        written.runs("b", CRASHED)
        head = await written.commit()
        # The moment at which these tests run is far from the one at which runs of tests take place.
        await store.put(StorageKeys(run).head, committed_at(head, 0.0 if run is not NEW else 4e9))
        # It could not look more like a run that is gone.
        await store.put(INPUT, committed_at(head, 0.0))
    await store.put("_probe/x", b"")
    yield store
    await store.close()


@pytest.fixture
async def api(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    async with running_fake_api() as api:
        api.on("GET", JOBS, answer(listing(job(ALIVE))))
        api.on("GET", QUEUES, answer(listing()))
        # Asked for before each deletion.
        for path in (JOBS, QUEUES):
            for namespace in (RUN.namespace, NEW.namespace):
                api.on("GET", in_namespace(path, namespace), answer(listing()))
        kubeconfig = tmp_path_factory.mktemp("kube") / "config"
        kubeconfig.write_text(
            "{apiVersion: v1, kind: Config, current-context: fake, users: [], "
            f"clusters: [{{name: fake, cluster: {{server: '{api.url}'}}}}], "
            "contexts: [{name: fake, context: {cluster: fake, user: ''}}]}"
        )
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        yield api


@pytest.fixture
def call(
    store: FileStore,
    api: FakeApi,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Call:
    del store, api
    monkeypatch.setenv("MAPREDUCE_STORAGE_URL", f"file://{tmp_path}")

    async def call(*arguments: str, where: str = "--all-namespaces") -> tuple[int, str, str]:
        code = await asyncio.to_thread(main, (where, *arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return call


async def head_of(store: FileStore, run: RunRef) -> Checkpoint:
    where = StorageKeys(run).head
    stored = await store.get(where)
    assert stored is not None
    return decode_checkpoint(stored.data, where)


async def runs_in(store: FileStore) -> set[str]:
    return {key.split("/")[2] async for key in store.list("") if key.count("/") > 2 and key != INPUT}


async def test_what_is_of_nobody_and_old_goes_and_all_else_stays(call: Call, store: FileStore, api: FakeApi) -> None:
    code, out, err = await call("--older-than", "30d")

    assert (code, err) == (0, "")
    assert await runs_in(store) == {ALIVE.uid, NEW.uid}
    assert await store.get("_probe/x") is not None
    assert await store.get(INPUT) is not None
    assert out.startswith("Deleted          default/demo (run-1), ")
    assert out.endswith("last written 1970-01-01T00:00:00Z\n")
    assert {asked.verb for asked in api.asked} == {"GET"}


async def test_a_dry_run_only_tells(call: Call, store: FileStore) -> None:
    before = [key async for key in store.list("")]

    _, out, _ = await call("--older-than", "0s", "--dry-run", "-o", "json")

    assert [key async for key in store.list("")] == before
    (found,) = json.loads(out)
    assert (found["uid"], found["verdict"], found["because"]) == ("run-1", "WouldBeDeleted", "")
    assert found["objects"] == sum(key.startswith("default/demo/") for key in before)
    assert found["lastWritten"] == "1970-01-01T00:00:00+00:00"


async def test_a_later_job_of_the_same_name_is_another_one(call: Call, store: FileStore, api: FakeApi) -> None:
    api.on("GET", JOBS, answer(listing(job(ALIVE), job(replace(RUN, uid="run-9")))))

    await call("--older-than", "30d")

    assert RUN.uid not in await runs_in(store)


async def test_letters_that_are_in_a_queue_stay(call: Call, store: FileStore, api: FakeApi) -> None:
    queue = {"metadata": {"name": "orders", "namespace": RUN.namespace}, "spec": {"jobRef": {"uid": RUN.uid}}}
    api.on("GET", QUEUES, answer(listing(queue)))

    _, out, _ = await call("--older-than", "30d")

    assert RUN.uid in await runs_in(store)
    assert "the letters of the DeadLetterQueue orders lie in it" in out


@pytest.mark.parametrize(
    ("parent", "more", "left"),
    [
        ({"name": "demo", "uid": "run-1"}, {}, {"run-1"}),
        ({"name": "demo"}, {"status": {"phase": "Pending"}}, {"run-1"}),
        ({"name": "demo", "uid": "run-0"}, {}, set()),
        ({"name": "other"}, {}, set()),
        # A fork needs nothing of its parent once it is planned.
        ({"name": "demo", "uid": "run-1"}, {"status": {"plan": {"items": 2}}}, set()),
    ],
)
async def test_what_a_fork_is_to_be_made_from_stays(
    call: Call, store: FileStore, api: FakeApi, parent: dict[str, str], *, more: dict[str, Any], left: set[str]
) -> None:
    fork = job(replace(RUN, name="fork", uid="run-9"), spec={"forkFrom": {"job": parent}}, **more)
    api.on("GET", JOBS, answer(listing(job(ALIVE), fork)))

    await call("--older-than", "30d")

    assert await runs_in(store) & {RUN.uid} == left


async def test_without_a_head_segments_tell_how_old_it_is(call: Call, store: FileStore) -> None:
    await store.delete([StorageKeys(RUN).head])
    for segment in [key async for key in store.list(StorageKeys(RUN).segments)]:
        stored = await store.get(segment)
        assert stored is not None
        found = decode_segment(stored.data, digest(stored.data), segment)
        header = msgspec.structs.replace(found.header, at=1000.0)
        await store.put(segment, encode_segment(header, found.records))
    _, out, _ = await call("--older-than", "1s", "--dry-run", "-o", "json")
    assert json.loads(out)[0]["lastWritten"] == "1970-01-01T00:16:40+00:00"

    await store.delete([key async for key in store.list(StorageKeys(RUN).segments)])
    code, out, _ = await call("--older-than", "0s")
    assert code == 0
    assert RUN.uid in await runs_in(store)
    assert "nothing in it says when it was written; delete it by hand" in out


@pytest.mark.parametrize("path", [JOBS, QUEUES])
async def test_while_the_api_server_does_not_say_all_stays(
    call: Call, store: FileStore, api: FakeApi, path: str
) -> None:
    api.on("GET", path, failure(403, "Forbidden", "not yours"))

    code, out, err = await call("--older-than", "0s")

    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert "not yours" in err
    assert await runs_in(store) == {RUN.uid, ALIVE.uid, NEW.uid}


async def test_what_somebody_came_to_need_meanwhile_stays(call: Call, store: FileStore, api: FakeApi) -> None:
    fork = job(replace(RUN, name="fork", uid="run-9"), spec={"forkFrom": {"job": {"name": RUN.name}}})
    api.on("GET", in_namespace(JOBS, RUN.namespace), answer(listing(fork)))

    code, out, _ = await call("--older-than", "30d")

    assert code == 0
    assert "the MapReduceJob fork is to be forked from it" in out
    assert RUN.uid in await runs_in(store)


async def test_one_that_cannot_be_deleted_keeps_no_other_from_it(
    call: Call, store: FileStore, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = FileStore.delete

    async def fails(self: FileStore, keys: Iterable[str]) -> None:
        listed = list(keys)
        if any(key.startswith(StorageKeys(ALIVE).prefix) for key in listed):
            raise StorageError("the disk is\nlocked", StorageErrorReason.UNAVAILABLE)
        await delete(self, listed)

    monkeypatch.setattr(FileStore, "delete", fails)
    api.on("GET", JOBS, answer(listing()))

    code, out, err = await call("--older-than", "30d")

    assert (code, err) == (1, "")
    failed, deleted = out.splitlines()
    assert failed.startswith("Failed           default/alive (run-2), ")
    assert failed.endswith(": the disk is locked")
    assert deleted.startswith("Deleted          default/demo (run-1), ")
    assert await runs_in(store) == {ALIVE.uid, NEW.uid}


async def test_an_api_server_that_falls_silent_ends_the_deletions(call: Call, store: FileStore, api: FakeApi) -> None:
    api.on("GET", in_namespace(QUEUES, RUN.namespace), failure(403, "Forbidden", "not yours any more"))

    code, out, _ = await call("--older-than", "30d", "-o", "json")

    (found,) = json.loads(out)
    assert (code, found["verdict"]) == (1, "Failed")
    assert "not yours any more" in found["because"]
    assert RUN.uid in await runs_in(store)


@pytest.mark.parametrize("limited_by", ["the command line", "the operator"])
async def test_of_one_namespace_the_others_are_left_alone(
    call: Call, store: FileStore, api: FakeApi, monkeypatch: pytest.MonkeyPatch, limited_by: str
) -> None:
    where = f"--namespace={NEW.namespace}"
    if limited_by == "the operator":
        where = "--all-namespaces"
        monkeypatch.setenv("MAPREDUCE_WATCH_NAMESPACE", NEW.namespace)
    await store.put(StorageKeys(NEW).head, committed_at(await head_of(store, NEW), 0.0))

    _, out, _ = await call("--older-than", "30d", where=where)

    assert out.startswith(f"Deleted          {NEW.namespace}/demo (run-3), ")
    assert out.count("\n") == 1
    assert await runs_in(store) == {RUN.uid, ALIVE.uid}
    assert {asked.path for asked in api.asked} == {in_namespace(path, NEW.namespace) for path in (JOBS, QUEUES)}


async def test_a_namespace_that_the_operator_does_not_look_after_is_refused(
    call: Call, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAPREDUCE_WATCH_NAMESPACE", NEW.namespace)

    code, out, err = await call("--older-than", "0s", where="--namespace=default")

    assert (code, out) == (1, "")
    assert err == "error: this operator looks after the namespace other alone, and not after default\n"
    assert await runs_in(store) == {RUN.uid, ALIVE.uid, NEW.uid}


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--older-than", "30d"],
        ["-A", "--older-than", "30d"],
        ["--namespace=", "--older-than", "30d"],
        ["--namespace=a/b", "--older-than", "30d"],
        ["--namespace=_probe", "--older-than", "30d"],
        ["--namespace=a", "--all-namespaces", "--older-than", "30d"],
        ["--all-namespaces", "--older-than", "30"],
        ["--all-namespaces", "--older-than", "-1d"],
        ["--all-namespaces", "--older-than", "1d", "x"],
    ],
)
def test_a_command_line_that_cannot_be_understood_is_told_so(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
