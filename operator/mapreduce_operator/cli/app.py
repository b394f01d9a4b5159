"""`kubectl mapreduce`: what people ask of the operator. Which commands there are, and which of them belong together."""

import sys
from collections.abc import Sequence

import click

from mapreduce_operator.cli import control, status, submit, watch
from mapreduce_operator.cli.framework import PLACE, run

PROGRAM = "kubectl mapreduce"


def group(name: str, what: str, *commands: click.Command) -> click.Group:
    """Commands about the same thing."""
    return click.Group(name, help=what, commands=commands, params=list(PLACE))


root = group(
    "mapreduce",
    "Runs a container over every item of a list, and loses nothing.",
    *(submit.run, watch.watch, status.status),
    *(control.suspend, control.resume, control.cancel, control.restart),
    *(control.checkpoint, control.restore, submit.fork),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line says; returns the exit code, which docs/cli.md explains."""
    return run(root, arguments, PROGRAM)


if __name__ == "__main__":
    sys.exit(main())
