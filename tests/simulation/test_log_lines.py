"""Whoever reads the log finds all that happened to one item by its id."""

import logging

import pytest

from tests.simulation.agents import fails_until
from tests.simulation.jobs import map_reduce_job, reduce_work
from tests.simulation.operator_in_memory import operating
from tests.simulation.simulated_cluster import SimulatedCluster
from tests.unit.test_logs import Lines

pytestmark = pytest.mark.asyncio


async def test_lines_about_an_item_say_of_which_run_item_and_dispatch(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mapreduce_operator")
    lines = Lines()
    logging.getLogger("mapreduce_operator").addHandler(lines)
    cluster = SimulatedCluster(fails_until(2))
    body = map_reduce_job([{"id": "a"}, {"id": "../b"}], reduce=reduce_work())
    body["spec"]["input"]["idExpression"] = "item.id"
    try:
        async with operating(cluster, body) as operator:
            await operator.until_finished()
    finally:
        logging.getLogger("mapreduce_operator").removeHandler(lines)

    run = {"namespace": "default", "job": "demo", "uid": "run-1"}
    about = [(line.get("item"), line.get("dispatch"), line["message"].partition(" came to ")[2]) for line in lines.read]
    for item in ("a", "../b", "reduce"):
        assert [one for one in about if one[0] == item] == [
            (item, 1, ""),
            (item, 1, "Failed(Error)"),
            (item, 2, ""),
            (item, 2, "Succeeded"),
        ]
    assert all(line.items() >= run.items() for line in lines.read if line["message"].startswith("default/demo"))
