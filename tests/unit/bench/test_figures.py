from collections import Counter

import pytest

from tests.bench.figures import Figures, cpu_in, table, total, writes_in

METRICS = """\
# TYPE apiserver_request_total counter
apiserver_request_total{code="201",component="apiserver",dry_run="",group="batch",resource="jobs",scope="resource",subresource="",verb="POST",version="v1"} 7
apiserver_request_total{code="409",component="apiserver",dry_run="",group="batch",resource="jobs",scope="resource",subresource="",verb="POST",version="v1"} 2
apiserver_request_total{code="201",component="apiserver",dry_run="All",group="batch",resource="jobs",scope="resource",subresource="",verb="POST",version="v1"} 1
apiserver_request_total{code="200",component="apiserver",dry_run="",group="batch",resource="jobs",scope="resource",subresource="status",verb="PUT",version="v1"} 2e+03
apiserver_request_total{code="200",component="apiserver",dry_run="",group="batch",resource="jobs",scope="cluster",subresource="",verb="WATCH",version="v1"} 5
apiserver_request_total{code="200",component="apiserver",dry_run="",group="coordination.k8s.io",resource="leases",scope="resource",subresource="",verb="PUT",version="v1"} 90
"""  # noqa: E501


def figures(items: int = 2, *, peak_bytes: int = 10_000_000, writes: dict[str, int] | None = None) -> Figures:
    return Figures(
        items=items,
        seconds=4.0,
        own_cpu_seconds=0.01,
        peak_bytes=peak_bytes,
        cpu_ticks=Counter({"etcd": 10}),
        own_writes=Counter(writes or {}),
        other_writes=Counter(),
    )


def test_writes_are_counted_by_verb_and_resource_whatever_came_of_them() -> None:
    assert writes_in(METRICS) == {"POST jobs": 9, "POST jobs (dry run)": 1, "PUT jobs/status": 2000}


def test_cpu_is_added_up_by_name() -> None:
    stats = """\
1 (etcd) S 0 1 1 0 -1 4194560 1 2 3 4 200 50 6 7 20 0 1 0 5
2 (a (b) c) R 0 1 1 0 -1 4194560 1 2 3 4 1 2 6 7 20 0 1 0 5
3 (etcd) S 0 1 1 0 -1 4194560 1 2 3 4 10 0 6 7 20 0 1 0 5
"""
    assert cpu_in(stats) == {"etcd": 260, "a (b) c": 3}


def test_runs_add_up_but_for_what_was_the_largest() -> None:
    both = total(
        [
            figures(2, peak_bytes=30_000_000, writes={"POST jobs": 2}),
            figures(4, peak_bytes=20_000_000, writes={"POST jobs": 4, "DELETE jobs": 4}),
        ]
    )
    assert (both.items, both.seconds, both.peak_bytes) == (6, 8.0, 30_000_000)
    assert both.own_writes == {"POST jobs": 6, "DELETE jobs": 4}
    assert both.items_per_second == pytest.approx(0.75)


def test_the_table_sets_both_side_by_side() -> None:
    ours, theirs = figures(100, writes={"POST jobs": 100, "PATCH mapreducejobs/status": 5}), figures(200)
    lines = {line[:38].strip(): line[38:].split() for line in table(ours, theirs)}
    assert lines["items per second"] == ["25.0", "50.0", "ratio", "0.50"]
    assert lines["own CPU per item"] == ["0.1", "ms", "0.1", "ms"]
    assert lines["the node's CPU per item"] == ["1.0", "ms", "0.5", "ms", "ratio", "0.50"]
    assert lines["own API writes per item"] == ["1.050", "0.000"]
    assert lines["PATCH mapreducejobs/status"] == ["0.050", "0.000"]
