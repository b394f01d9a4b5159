"""Writes the status of Redrives: for the runs that serve them, and for the look after those that no run serves."""

import asyncio

from mapreduce_operator.api import Redrive, RedriveStatus
from mapreduce_operator.core.redrive_report import is_over
from mapreduce_operator.engine.world import World
from mapreduce_operator.ports import ClusterError, ClusterErrorReason


async def write_answer(world: World, redrive: Redrive, status: RedriveStatus) -> None:
    """Writes what was decided on `redrive` as it is. Raises ClusterError.

    Nothing is written while somebody else writes, nor over what was written since: who decided looks again.
    """
    metadata = redrive.metadata
    with world.desk.answering(redrive) as turn:
        if not turn:
            return
        try:
            await world.cluster.write_redrive_status(
                metadata.namespace, metadata.name, metadata.uid, status.to_kubernetes()
            )
        except (ClusterError, asyncio.CancelledError) as error:
            if isinstance(error, ClusterError) and error.reason is ClusterErrorReason.NOT_FOUND:
                world.desk.forget_redrive(metadata.uid)
                return
            if is_over(redrive.model_copy(update={"status": status})):
                # It may be there all the same: what was decided for good is not decided anew.
                world.desk.answered(redrive, status, written=False)
            raise
        world.desk.answered(redrive, status)
