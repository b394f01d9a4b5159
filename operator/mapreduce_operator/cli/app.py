"""`kubectl mapreduce`: what people ask of the operator. Which commands there are, and which of them belong together."""

import sys
from collections.abc import Sequence

import click

from mapreduce_operator import __version__
from mapreduce_operator.cli import (
    around,
    checkpoints,
    control,
    dlq,
    items,
    logs,
    redrive,
    status,
    submit,
    validate,
    watch,
)
from mapreduce_operator.cli.framework import group, run

PROGRAM = "kubectl mapreduce"


ITEMS = group(
    "items", "The items of a job.", items.list_items, items.show_item, redrive.retry_items, redrive.skip_items
)
DLQ = group(
    "dlq",
    "The dead letters of a job.",
    dlq.list_letters,
    dlq.show_letter,
    dlq.analyze,
    dlq.export_letters,
    redrive.purge,
)
CHECKPOINTS = group(
    "checkpoints",
    "The checkpoints of a job.",
    *(checkpoints.list_checkpoints, checkpoints.show_checkpoint),
    *(checkpoints.diff_checkpoints, checkpoints.validate_checkpoints),
)
root = group(
    "mapreduce",
    "Runs a container over every item of a list, and loses nothing.",
    *(validate.validate, submit.run, watch.watch, status.status, items.results, logs.logs),
    *(control.suspend, control.resume, control.cancel, control.restart),
    *(control.checkpoint, control.restore, submit.fork, redrive.redrive),
    *(ITEMS, DLQ, CHECKPOINTS),
    *(around.gc, around.version, around.completion),
)
click.version_option(__version__, prog_name=PROGRAM)(root)


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line says; returns the exit code, which docs/cli.md explains."""
    return run(root, arguments, PROGRAM)


def complete(arguments: Sequence[str] | None = None) -> int:
    """The program `kubectl_complete-mapreduce`, which kubectl calls to complete a command line of the plugin."""
    click.echo("\n".join(around.completions(root, sys.argv[1:] if arguments is None else arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
