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
            problems = problems_of(body)
            wrong += bool(problems)
            metadata = body.get("metadata")
            name = metadata.get("name", "") if isinstance(metadata, dict) else ""
            click.echo(f"{where}: {kind} {name}: {counted(len(problems), 'problem') if problems else 'valid'}")
            for problem in problems:
                click.echo(f"  {problem}")
            if kind == KIND and not problems and (plan := plan_of(_input_in(_filled_in(body)))) is not None:
                click.echo(f"  {with_ids(plan)}")
    if not seen:
        raise CommandError(f"nothing to validate: there is no {', '.join(_OURS[:-1])} or {_OURS[-1]} in the files")
    if wrong:
        raise CommandError(f"{wrong} of {counted(seen, 'object')} would not be taken; correct what is named above")


def problems_of(body: Body) -> list[str]:
    """What the API server would refuse an object for; where it takes it, what the operator would not run it for."""
    if body.get("apiVersion") != API_VERSION:
        return [f"apiVersion: {body.get('apiVersion')!r} is not served: it is {API_VERSION}"]
    try:
        if refused := complaints_about(body):
            return [str(one) for one in refused]
        return [f"the operator: {problem}" for problem in _not_run(body)]
    except ValidationError as error:
        return [str(error)]


def _filled_in(body: Body) -> Body:
    """The spec with what the API server adds to it."""
    made: Body = {"spec": body["spec"]}
    fill_in(made, schema_of(body["kind"]))
    spec: Body = made["spec"]
    return spec


def _input_in(spec: Body) -> Input:
    return Input.model_validate(spec.get("input", {}))


def _not_run(body: Body) -> Iterator[str]:
    made = _filled_in(body)
    match body["kind"]:
        case "MapReduceJob":
            try:
                plan_of(_input_in(made))
            except InputError as error:
                yield f"{error.reason}: {error}"
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
