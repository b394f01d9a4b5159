"""`validate`: whether the API server would take a manifest, and the operator run it; no cluster is asked."""

from collections.abc import Iterator, Sequence

import click
from pydantic import ValidationError

from mapreduce_operator.api import (
    API_VERSION,
    KIND,
    QUEUE_KIND,
    REDRIVE_KIND,
    DeadLetterQueueSpec,
    Input,
    MapReduceJobSpec,
    RedriveSpec,
)
from mapreduce_operator.cli.admission import complaints_about, fill_in, schema_of
from mapreduce_operator.cli.apiserver import Body
from mapreduce_operator.cli.errors import CommandError
from mapreduce_operator.cli.framework import command
from mapreduce_operator.cli.manifests import documents, kind_in_words
from mapreduce_operator.cli.planned import plan_of, with_ids
from mapreduce_operator.core.contract import PARAMS_BYTES
from mapreduce_operator.core.expressions import ExpressionError
from mapreduce_operator.core.letter_queries import Eligibility, LetterFilter
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.plan import InputError, canonical
from mapreduce_operator.core.templates import rule_of
from mapreduce_operator.core.texts import counted

_OURS = (KIND, QUEUE_KIND, REDRIVE_KIND)


@command("validate", offline=True)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
def validate(files: Sequence[str]) -> None:
    """Tells what is wrong with objects in files; asks no cluster.

    What cannot be known without one: whether a pod template is right inside, and whether what is named is there.
    """
    wrong = seen = 0
    for file in files:
        for where, body in documents(file):
            kind = body.get("kind")
            if kind not in _OURS:
                click.echo(f"{where}: passed over, since {kind_in_words(body)} is not of {API_VERSION}")
                continue
            seen += 1
            problems, plan = examined(body)
            wrong += bool(problems)
            metadata = body.get("metadata")
            name = metadata.get("name", "") if isinstance(metadata, dict) else ""
            click.echo(f"{where}: {kind} {name}: {counted(len(problems), 'problem') if problems else 'valid'}")
            for problem in problems:
                click.echo(f"  {problem}")
            if plan is not None:
                click.echo(f"  {with_ids(plan)}")
    if not seen:
        raise CommandError(f"nothing to validate: there is no {', '.join(_OURS[:-1])} or {_OURS[-1]} in the files")
    if wrong:
        raise CommandError(f"{wrong} of {counted(seen, 'object')} would not be taken; correct what is named above")


def examined(body: Body) -> tuple[list[str], Body | None]:
    """What the API server would refuse an object for; where it takes it, what the operator would not run it for.

    And what would be planned of a job with which nothing is wrong, if its items stand in it.
    """
    if body.get("apiVersion") != API_VERSION:
        return [f"apiVersion: {body.get('apiVersion')!r} is not served: it is {API_VERSION}"], None
    plan, faults = None, list[str]()
    try:
        if refused := complaints_about(body):
            return [str(one) for one in refused], None
        made = _filled_in(body)
        if body["kind"] == KIND:
            try:
                plan = plan_of(Input.model_validate(made.get("input", {})))
            except InputError as error:
                faults.append(f"{error.reason}: {error}")
        faults += _faults_of(body["kind"], made)
    except ValidationError as error:
        return [str(error)], None
    return [f"the operator: {fault}" for fault in faults], None if faults else plan


def _filled_in(body: Body) -> Body:
    """The spec with what the API server adds to it."""
    made: Body = {"spec": body["spec"]}
    fill_in(made, schema_of(body["kind"]))
    spec: Body = made["spec"]
    return spec


def _faults_of(kind: str, made: Body) -> Iterator[str]:
    match kind:
        case "MapReduceJob":
            if "map" in made:
                yield from _faults_of_job(MapReduceJobSpec.model_validate(made))
        case "Redrive":
            yield from _faults_of_redrive(RedriveSpec.model_validate(made))
        case "DeadLetterQueue":
            spec = DeadLetterQueueSpec.model_validate(made)
            try:
                Eligibility(spec.eligibility)
            except ExpressionError as error:
                yield str(error)
        case _:
            pass


def _faults_of_job(spec: MapReduceJobSpec) -> Iterator[str]:
    for stage, work in ((Stage.MAP, spec.map), (Stage.REDUCE, spec.reduce)):
        try:
            if work is not None and work.result.rule:
                rule_of(stage, work.result.rule)
        except ExpressionError as error:
            yield f"InvalidResultRule: spec.{stage}.result.rule: {error}"
    if (size := len(canonical(spec.params))) > PARAMS_BYTES:
        yield f"ParamsTooLarge: spec.params are {size:,} bytes as JSON, and at most {PARAMS_BYTES:,} go to the agents"


def _faults_of_redrive(spec: RedriveSpec) -> Iterator[str]:
    try:
        if spec.selection.filter is not None:
            LetterFilter(spec.selection.filter)
    except ExpressionError as error:
        yield f"InvalidFilter: {error}"
