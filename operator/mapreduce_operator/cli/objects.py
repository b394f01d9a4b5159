"""What commands ask of the bodies of objects, and how they wait for the end of a job."""

from collections.abc import Iterator
from typing import Final

from mapreduce_operator.adapters.kube.resources import MAPREDUCE_JOBS
from mapreduce_operator.api import Phase
from mapreduce_operator.cli.errors import CommandError, ExitCode
from mapreduce_operator.cli.session import Body, Session
from mapreduce_operator.cli.text import as_json, as_yaml

_CODES: Final = {
    Phase.FAILED: ExitCode.JOB_FAILED,
    Phase.PARTIALLY_SUCCEEDED: ExitCode.JOB_PARTIALLY_SUCCEEDED,
}


def status_of(body: Body) -> Body:
    found: Body = body.get("status") or {}
    return found


def phase_of(body: Body) -> str:
    """The phase of a job, in words where it has none."""
    return str(status_of(body).get("phase", "not taken up by an operator yet"))


def condition(body: Body, kind: str) -> Body:
    """The condition of a type; one that says nothing where there is none."""
    conditions: list[Body] = status_of(body).get("conditions", [])
    return next((one for one in conditions if one["type"] == kind), {"status": "Unknown", "reason": "", "message": ""})


def holds(body: Body, kind: str) -> bool:
    return bool(condition(body, kind)["status"] == "True")


def is_current(body: Body) -> bool:
    """Whether the status answers to the spec as it is by now."""
    observed: int = status_of(body).get("observedGeneration", 0)
    generation: int = body["metadata"]["generation"]
    return observed >= generation


def has_finished(body: Body) -> bool:
    return is_current(body) and holds(body, "Finished")


def is_suspended(body: Body) -> bool:
    """Whether the job stands still: nothing is started, and no agent runs any more."""
    return is_current(body) and holds(body, "Suspended") and not status_of(body).get("active")


def ended_as(session: Session, body: Body) -> CommandError | None:
    """How a job that has finished ended, where it was not wholly well."""
    phase = status_of(body).get("phase")
    if phase not in _CODES:
        return None
    found = condition(body, "Failed" if phase == Phase.FAILED else "Complete")
    name, advice = body["metadata"]["name"], ""
    if queue := status_of(body).get("deadLetters", {}).get("queue"):
        advice = f"; {session.advised(f'dlq analyze {queue}')} tells why"
    return CommandError(f"{name}: {phase} ({found['reason']}): {found['message']}{advice}", _CODES[phase])


def queue_of(session: Session, body: Body) -> str:
    """The dead letter queue of a job. Raises CommandError where there is none."""
    queue: str = status_of(body).get("deadLetters", {}).get("queue", "")
    if not queue:
        raise CommandError(
            f"{about(body)} has no dead letters: no item of it was given up. Items that were left out (Skipped) run "
            f"again with {session.advised('restart ' + body['metadata']['name'] + ' --phase Map')}",
            ExitCode.NOT_FOUND,
        )
    return queue


def about(body: Body) -> str:
    """The object, as kubectl names it."""
    return f"{body['kind'].lower()}/{body['metadata']['name']}"


def for_programs(body: Body) -> Body:
    """The object without the notes of who manages which field, as kubectl shows it."""
    return body | {"metadata": {name: value for name, value in body["metadata"].items() if name != "managedFields"}}


def shown(body: Body, output: str) -> str:
    """The object as name, json or yaml."""
    match output:
        case "name":
            return f"{about(body)}\n"
        case "yaml":
            return as_yaml(for_programs(body))
        case _:
            return as_json(for_programs(body))


def check_reduces(body: Body) -> None:
    """Raises CommandError for a job that has no reduce."""
    # What a fork leaves out is filled in later.
    if "map" in body["spec"] and "reduce" not in body["spec"]:
        raise CommandError(f"{about(body)} has no reduce: its spec names none, and its results are those of its items")


async def job_named(session: Session, name: str) -> Body:
    """Raises CommandError with advice where there is none."""
    found = await session.find(MAPREDUCE_JOBS, name)
    if found is None:
        raise no_job(session, name)
    return found


def no_job(session: Session, name: str) -> CommandError:
    return CommandError(
        f"there is no MapReduceJob {name!r} in the namespace {session.namespace!r}; `kubectl mapreduce status -A` "
        "lists all jobs, and -n chooses another namespace",
        ExitCode.NOT_FOUND,
    )


def troubles(body: Body, *said: str) -> Iterator[Body]:
    """The conditions that somebody should know of; of those with the same message the first, of `said` ones none."""
    told = set(said)
    for kind, good in (
        *(("Accepted", "True"), ("CheckpointHealthy", "True"), ("Restored", "True"), ("Restarted", "True")),
        *(("PlanCurrent", "True"), ("ResultsFit", "True"), ("Stalled", "False"), ("Progressing", "True")),
    ):
        found = condition(body, kind)
        if found["status"] in {good, "Unknown"} or (kind == "Progressing" and holds(body, "Finished")):
            continue
        if found["message"] not in told:
            yield found
        told.add(found["message"])
