from mapreduce_operator.adapters.storage import MemoryStore
from tests.bench.checkpoints import measure, table


async def test_every_figure_is_of_what_it_says() -> None:
    costs = await measure(MemoryStore(), 200)

    save, load, results, snapshot, whole = costs.values()
    # A result has 200 bytes; segment, head and object of the checkpoint are written for each save.
    assert save.bytes > 100 * 200
    assert save.requests == 3
    assert results.bytes > 200 * 200
    assert load.bytes > results.bytes, "there are too few items for a snapshot"
    assert 0 < snapshot.bytes < save.bytes
    assert whole.bytes > results.bytes
    assert all(cost.seconds > 0 for cost in costs.values())
    assert [line.split("  ")[1] for line in table({"memory": {200: costs}})][1:] == list(costs)
