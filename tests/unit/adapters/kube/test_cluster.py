from typing import Any

import pytest

from mapreduce_operator.adapters.kube import ApiSession, KubeCluster
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.workloads import JobSeen, PodSeen
from mapreduce_operator.ports import Cluster, ClusterError, ClusterErrorReason, JobCreated
from tests.unit.adapters.kube.fake_api import FakeApi, answer, failure, text
from tests.unit.adapters.kube.objects import JOB_UID, RUN_UID, job, pod

RUN = RunRef("team-a", "licence-words", RUN_UID)
JOBS = "/apis/batch/v1/namespaces/team-a/jobs"
JOB = f"{JOBS}/x"
CONFIG_MAPS = "/api/v1/namespaces/team-a/configmaps"
CONFIG_MAP = f"{CONFIG_MAPS}/results"
RUNS = "/apis/mapreduce.dev/v1alpha1/namespaces/team-a/mapreducejobs/licence-words"
OURS = "app.kubernetes.io/managed-by=mapreduce-operator"

NOT_FOUND = failure(404, "NotFound", "not found")
CONFLICT = failure(409, "Conflict", "the object has been modified")
INVALID = failure(422, "Invalid", "the server rejected our request due to an error in our request")
EXISTS = failure(409, "AlreadyExists", "already exists")
EXPIRED = failure(410, "Expired", "The provided continue parameter is too old")
UNAVAILABLE = failure(500, "InternalError", "etcdserver: leader changed")


def page(items: list[Any], version: str = "9000", more: str = "") -> Any:
    return answer({"metadata": {"resourceVersion": version, "continue": more}, "items": items})


def mapreducejob(uid: str = RUN_UID, finalizers: list[str] | None = None, version: str = "70") -> Any:
    metadata = {"name": "licence-words", "uid": uid, "resourceVersion": version}
    return answer({"metadata": metadata if finalizers is None else metadata | {"finalizers": finalizers}})


@pytest.fixture
def port(cluster: KubeCluster) -> Cluster:
    """The type checker's word that the adapter is what the engine asks for."""
    return cluster


# ---------------------------------------------------------------------------------------------------------------- Jobs


async def test_a_job_is_created(api: FakeApi, port: Cluster) -> None:
    api.on("POST", JOBS, answer(job(), 201))

    assert await port.create_job("team-a", {"metadata": {"name": "x"}}) == JobCreated(JOB_UID)

    (asked,) = api.asked
    assert asked.query == {"fieldManager": "mapreduce-operator"}
    assert asked.body == {"metadata": {"name": "x"}}


async def test_a_dry_run_is_strict_and_only_that(api: FakeApi, port: Cluster) -> None:
    api.on("POST", JOBS, answer(job(), 201))

    await port.create_job("team-a", {"metadata": {"name": "x"}}, dry_run=True)

    (asked,) = api.asked
    assert (asked.query["dryRun"], asked.query["fieldValidation"]) == ("All", "Strict")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (EXISTS, ClusterErrorReason.ALREADY_EXISTS),
        (UNAVAILABLE, ClusterErrorReason.UNAVAILABLE),
        (text("<html>welcome</html>"), ClusterErrorReason.UNAVAILABLE),
        (answer({"kind": "Job"}), ClusterErrorReason.UNAVAILABLE),
    ],
    ids=["exists", "500", "no JSON", "no object"],
)
async def test_a_job_that_may_not_have_been_created_is_an_error_that_names_it(
    api: FakeApi, port: Cluster, given: Any, reason: ClusterErrorReason
) -> None:
    api.on("POST", JOBS, given)

    with pytest.raises(ClusterError, match=r"^POST jobs team-a/x: ") as caught:
        await port.create_job("team-a", {"metadata": {"name": "x"}})

    assert caught.value.reason is reason


async def test_whose_job_has_a_name(api: FakeApi, port: Cluster) -> None:
    api.on("GET", JOB, answer(job()), answer(job(ownerReferences=None, labels=None)), NOT_FOUND, UNAVAILABLE)

    assert await port.get_job("team-a", "x") == (JOB_UID, RUN_UID)
    assert await port.get_job("team-a", "x") == (JOB_UID, "")
    assert await port.get_job("team-a", "x") is None
    with pytest.raises(ClusterError):
        await port.get_job("team-a", "x")


@pytest.mark.parametrize("given", [answer({"kind": "Status", "status": "Success"}), NOT_FOUND, CONFLICT])
async def test_a_job_is_deleted_by_its_uid(api: FakeApi, port: Cluster, given: Any) -> None:
    api.on("DELETE", JOB, given)

    await port.delete_job("team-a", "x", JOB_UID)

    (asked,) = api.asked
    assert asked.body == {"propagationPolicy": "Background", "preconditions": {"uid": JOB_UID}}


async def test_a_job_that_could_not_be_deleted_is_an_error(api: FakeApi, port: Cluster) -> None:
    api.on("DELETE", JOB, failure(403, "Forbidden", "cannot delete"))

    with pytest.raises(ClusterError, match="cannot delete"):
        await port.delete_job("team-a", "x", JOB_UID)


async def test_all_jobs_of_a_run_are_deleted_page_by_page(api: FakeApi, port: Cluster) -> None:
    api.on("DELETE", JOBS, page([job()] * 2, more="next"), EXPIRED, page([job()], more="later"), page([job()]))

    await port.delete_jobs(RUN)

    assert [asked.query.get("continue") for asked in api.asked] == [None, "next", None, "later"]
    for asked in api.asked:
        assert asked.query["labelSelector"] == f"{OURS},mapreduce.dev/run-uid={RUN_UID}"
        assert asked.body == {"propagationPolicy": "Background"}


# ---------------------------------------------------------------------------------------------------------------- list


async def test_a_list_goes_on_to_its_last_page(api: FakeApi, port: Cluster) -> None:
    api.on(
        "GET",
        "/api/v1/pods",
        page([pod(name="a"), pod(name="b")], more="one"),
        page([], more="two"),
        page([pod(name="c"), pod(name="alien", labels={})]),
    )

    listing = await port.list_workloads("pods")

    assert [seen.name for seen in listing.workloads] == ["a", "b", "c"]
    assert all(isinstance(seen, PodSeen) for seen in listing.workloads)
    assert listing.resource_version == "9000"
    assert [asked.query for asked in api.asked] == [
        {"labelSelector": OURS, "limit": "500"},
        {"labelSelector": OURS, "limit": "500", "continue": "one"},
        {"labelSelector": OURS, "limit": "500", "continue": "two"},
    ]


async def test_a_list_of_jobs_in_one_namespace(api: FakeApi, session: ApiSession) -> None:
    api.on("GET", JOBS, page([job()]))

    listing = await KubeCluster(session, namespace="team-a").list_workloads("jobs")

    assert [type(seen) for seen in listing.workloads] == [JobSeen]


async def test_an_empty_list_may_be_null(api: FakeApi, port: Cluster) -> None:
    api.on("GET", "/api/v1/pods", answer({"metadata": {"resourceVersion": "5"}, "items": None}))

    listing = await port.list_workloads("pods")

    assert (listing.workloads, listing.resource_version) == ([], "5")


async def test_a_list_that_expires_begins_anew_without_what_it_had(api: FakeApi, port: Cluster) -> None:
    api.on("GET", "/api/v1/pods", page([pod(name="old")], "1", "one"), EXPIRED, page([pod(name="new")], "2"))

    listing = await port.list_workloads("pods")

    assert [seen.name for seen in listing.workloads] == ["new"]
    assert listing.resource_version == "2"


async def test_a_list_that_expires_again_and_again_gives_up(api: FakeApi, port: Cluster) -> None:
    first = page([pod()], more="one")
    api.on("GET", "/api/v1/pods", first, EXPIRED, first, EXPIRED, first, EXPIRED)

    with pytest.raises(ClusterError) as caught:
        await port.list_workloads("pods")

    assert caught.value.reason is ClusterErrorReason.EXPIRED
    assert len(api.asked) == 6


async def test_half_a_list_is_no_list(api: FakeApi, port: Cluster) -> None:
    api.on("GET", "/api/v1/pods", page([pod()], more="one"), UNAVAILABLE)

    with pytest.raises(ClusterError, match="leader changed"):
        await port.list_workloads("pods")


# ---------------------------------------------------------------------------------------------------------- ConfigMaps


async def test_a_config_map_is_read(api: FakeApi, port: Cluster) -> None:
    text, packed = {"results.jsonl": '"ü"\n'}, {"items.gz": "H4s="}
    found = answer({"data": text, "binaryData": packed})
    api.on("GET", CONFIG_MAP, found, answer({"metadata": {}}), NOT_FOUND)

    read = await port.read_config_map("team-a", "results")
    assert read == {"results.jsonl": '"ü"\n'.encode(), "items.gz": b"\x1f\x8b"}
    assert await port.read_config_map("team-a", "results") == {}
    assert await port.read_config_map("team-a", "results") is None


async def test_a_config_map_is_created(api: FakeApi, port: Cluster) -> None:
    api.on("POST", CONFIG_MAPS, answer({}, 201))

    await port.write_config_map("team-a", {"metadata": {"name": "results"}, "data": {"a": "b"}})

    (asked,) = api.asked
    assert asked.body == {"metadata": {"name": "results"}, "data": {"a": "b"}}


async def test_a_config_map_that_is_there_is_replaced(api: FakeApi, port: Cluster) -> None:
    api.on("POST", CONFIG_MAPS, EXISTS)
    api.on("PUT", CONFIG_MAP, answer({}))

    await port.write_config_map("team-a", {"metadata": {"name": "results"}, "data": {"a": "b"}})

    assert [asked.verb for asked in api.asked] == ["POST", "PUT"]
    assert api.asked[1].body["data"] == {"a": "b"}


async def test_a_config_map_that_is_deleted_meanwhile_is_created(api: FakeApi, port: Cluster) -> None:
    api.on("POST", CONFIG_MAPS, EXISTS, answer({}, 201))
    api.on("PUT", CONFIG_MAP, NOT_FOUND)

    await port.write_config_map("team-a", {"metadata": {"name": "results"}})

    assert [asked.verb for asked in api.asked] == ["POST", "PUT", "POST"]


async def test_a_config_map_that_comes_and_goes_is_not_chased_for_ever(api: FakeApi, port: Cluster) -> None:
    api.on("POST", CONFIG_MAPS, EXISTS)
    api.on("PUT", CONFIG_MAP, NOT_FOUND)

    with pytest.raises(ClusterError) as caught:
        await port.write_config_map("team-a", {"metadata": {"name": "results"}})

    assert caught.value.reason is ClusterErrorReason.CONFLICT


async def test_a_config_map_that_is_refused_is_an_error(api: FakeApi, port: Cluster) -> None:
    api.on("POST", CONFIG_MAPS, failure(422, "Invalid", "data: Too long"))

    with pytest.raises(ClusterError, match="Too long") as caught:
        await port.write_config_map("team-a", {"metadata": {"name": "results"}})

    assert caught.value.reason is ClusterErrorReason.INVALID


@pytest.mark.parametrize("given", [answer({}), NOT_FOUND])
async def test_a_config_map_is_deleted(api: FakeApi, port: Cluster, given: Any) -> None:
    api.on("DELETE", CONFIG_MAP, given)

    await port.delete_config_map("team-a", "results")

    assert len(api.asked) == 1


# -------------------------------------------------------------------------------------------------------- MapReduceJob


async def test_a_status_is_written_whole_for_the_object_of_that_uid(api: FakeApi, port: Cluster) -> None:
    api.on("PATCH", f"{RUNS}/status", answer({}))

    await port.write_status(RUN, {"counts": {"succeeded": 1}, "result": {"of the agent": None}}, replacing=0)

    (asked,) = api.asked
    assert asked.headers["content-type"] == "application/json-patch+json"
    assert asked.body == [
        {"op": "test", "path": "/metadata/uid", "value": RUN_UID},
        {"op": "test", "path": "/status/leaderEpoch", "value": None},
        {"op": "add", "path": "/status", "value": {"counts": {"succeeded": 1}, "result": {"of the agent": None}}},
    ]


@pytest.mark.parametrize(
    ("given", "there", "reason"),
    [
        (NOT_FOUND, NOT_FOUND, ClusterErrorReason.NOT_FOUND),
        (INVALID, mapreducejob(uid="another"), ClusterErrorReason.NOT_FOUND),
        (INVALID, NOT_FOUND, ClusterErrorReason.NOT_FOUND),
        (INVALID, mapreducejob(), ClusterErrorReason.INVALID),
        (CONFLICT, mapreducejob(), ClusterErrorReason.CONFLICT),
        (UNAVAILABLE, mapreducejob(), ClusterErrorReason.UNAVAILABLE),
    ],
    ids=["gone", "another of that name", "gone meanwhile", "wrong", "busy", "500"],
)
async def test_a_status_that_was_not_written_says_whether_its_object_is_gone(
    api: FakeApi, port: Cluster, given: Any, there: Any, reason: ClusterErrorReason
) -> None:
    api.on("PATCH", f"{RUNS}/status", given)
    api.on("GET", RUNS, there)

    with pytest.raises(ClusterError) as caught:
        await port.write_status(RUN, {}, replacing=0)

    assert caught.value.reason is reason


async def test_a_finalizer_is_added_to_those_of_others(api: FakeApi, port: Cluster) -> None:
    api.on("GET", RUNS, mapreducejob(finalizers=["other/one"]))
    api.on("PATCH", RUNS, answer({}))

    await port.add_finalizer(RUN)

    assert api.asked[-1].body == {
        "metadata": {
            "uid": RUN_UID,
            "resourceVersion": "70",
            "finalizers": ["other/one", "mapreduce.dev/finalizer"],
        }
    }


async def test_a_finalizer_is_removed_from_those_of_others(api: FakeApi, port: Cluster) -> None:
    api.on("GET", RUNS, mapreducejob(finalizers=["mapreduce.dev/finalizer", "other/one"]))
    api.on("PATCH", RUNS, answer({}))

    await port.remove_finalizer(RUN)

    assert api.asked[-1].body["metadata"]["finalizers"] == ["other/one"]


async def test_what_is_done_already_is_not_written(api: FakeApi, port: Cluster) -> None:
    api.on("GET", RUNS, mapreducejob(finalizers=["mapreduce.dev/finalizer"]), mapreducejob())

    await port.add_finalizer(RUN)
    await port.remove_finalizer(RUN)

    assert [asked.verb for asked in api.asked] == ["GET", "GET"]


async def test_a_finalizer_is_tried_again_when_somebody_was_faster(api: FakeApi, port: Cluster) -> None:
    api.on("GET", RUNS, mapreducejob(), mapreducejob(finalizers=["other/one"], version="71"))
    api.on("PATCH", RUNS, CONFLICT, answer({}))

    await port.add_finalizer(RUN)

    assert api.asked[-1].body["metadata"]["resourceVersion"] == "71"
    assert api.asked[-1].body["metadata"]["finalizers"] == ["other/one", "mapreduce.dev/finalizer"]


async def test_somebody_who_is_always_faster_is_not_raced_for_ever(api: FakeApi, port: Cluster) -> None:
    api.on("GET", RUNS, mapreducejob())
    api.on("PATCH", RUNS, CONFLICT)

    with pytest.raises(ClusterError) as caught:
        await port.add_finalizer(RUN)

    assert caught.value.reason is ClusterErrorReason.CONFLICT
    assert len(api.asked_for("PATCH", RUNS)) == 5


@pytest.mark.parametrize(
    "there",
    [NOT_FOUND, mapreducejob(uid="another", finalizers=["mapreduce.dev/finalizer"])],
    ids=["gone", "another of that name"],
)
async def test_the_finalizer_of_an_object_that_is_gone(api: FakeApi, port: Cluster, there: Any) -> None:
    api.on("GET", RUNS, there)

    await port.remove_finalizer(RUN)
    with pytest.raises(ClusterError) as caught:
        await port.add_finalizer(RUN)

    assert caught.value.reason is ClusterErrorReason.NOT_FOUND
    assert api.asked_for("PATCH", RUNS) == []


# -------------------------------------------------------------------------------------------------------------- events


class Noon:
    def now(self) -> float:
        return 1748779200.5


async def test_an_event_is_about_the_object_of_that_uid(api: FakeApi, session: ApiSession) -> None:
    api.on("POST", "/api/v1/namespaces/team-a/events", answer({}, 201))

    await KubeCluster(session, clock=Noon()).post_event(RUN, kind="Warning", reason="ItemFailed", message="why")

    (asked,) = api.asked
    assert asked.body == {
        "metadata": {"generateName": "licence-words.", "namespace": "team-a"},
        "involvedObject": {
            "apiVersion": "mapreduce.dev/v1alpha1",
            "kind": "MapReduceJob",
            "namespace": "team-a",
            "name": "licence-words",
            "uid": RUN_UID,
        },
        "type": "Warning",
        "reason": "ItemFailed",
        "message": "why",
        "source": {"component": "mapreduce-operator"},
        "firstTimestamp": "2025-06-01T12:00:00Z",
        "lastTimestamp": "2025-06-01T12:00:00Z",
        "count": 1,
    }


@pytest.mark.parametrize("message", ["x" * 5_000, "ä" * 5_000, "x" * 1_023 + "ä", "\ud800" * 2_000])
async def test_a_long_message_is_cut(api: FakeApi, port: Cluster, message: str) -> None:
    api.on("POST", "/api/v1/namespaces/team-a/events", answer({}, 201))

    await port.post_event(RUN, kind="Normal", reason="Planned", message=message)

    sent = api.asked[0].body["message"]
    assert 1_000 < len(sent.encode()) <= 1_024
    assert sent.endswith("…")
