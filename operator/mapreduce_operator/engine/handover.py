"""The ConfigMaps through which reduce gets its results: written from the first on, and removed from the last on.

So there is never a gap between those that are there, whoever dies when, and they are found by asking for their names
until one is missing. What is there beside those of a Job is read by nobody: the Job names each that it reads.
"""

from collections.abc import Sequence

from mapreduce_operator.core.jobs import Manifest
from mapreduce_operator.core.names import RunRef, results_config_map_name
from mapreduce_operator.core.results import MAX_PARTS
from mapreduce_operator.ports import Cluster


async def write_parts(cluster: Cluster, run: RunRef, config_maps: Sequence[Manifest]) -> None:
    """Writes all parts of a reduce's input, and removes those that a larger one has left. Raises ClusterError."""
    for one in config_maps:
        await cluster.write_config_map(run.namespace, one)
    await remove_parts(cluster, run, kept=len(config_maps))


async def remove_parts(cluster: Cluster, run: RunRef, *, kept: int) -> None:
    """Removes all parts but the first so many. Raises ClusterError."""
    there: list[str] = []
    for part in range(kept + 1, MAX_PARTS + 1):
        name = results_config_map_name(run, part)
        if await cluster.read_config_map(run.namespace, name) is None:
            break
        there.append(name)
    for name in reversed(there):
        await cluster.delete_config_map(run.namespace, name)
