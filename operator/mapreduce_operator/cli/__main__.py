"""`mapreduce`: what people ask of storage. It runs in a pod of the operator, which has the storage and the rights.

Nothing is written, so that any of the operator's pods will do. Exit codes: 0; 1 for an error, which is said in one line
on stderr; 2 for a command line that cannot be understood.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from typing import BinaryIO

from mapreduce_operator import __version__
from mapreduce_operator.adapters.kube import CredentialsError
from mapreduce_operator.adapters.storage import S3Options, open_store
from mapreduce_operator.cli import checkpoints, dlq
from mapreduce_operator.cli.queue_reader import CommandError
from mapreduce_operator.core.checkpoint import JournalError
from mapreduce_operator.core.expressions import ExpressionError
from mapreduce_operator.core.plan import InputError
from mapreduce_operator.ports import CheckpointNotFoundError, ClusterError, StorageError
from mapreduce_operator.settings import Settings, SettingsError

_ERRORS = (
    *(CommandError, ExpressionError, JournalError, CheckpointNotFoundError, InputError, StorageError, ClusterError),
    *(CredentialsError, SettingsError, ValueError, OSError),
)


def main(arguments: Sequence[str] | None = None, out: BinaryIO | None = None) -> int:
    """Does what the command line says; returns the exit code, or exits with 2."""
    parser = argparse.ArgumentParser(prog="mapreduce", description="Looks into storage; changes nothing.")
    parser.add_argument("--version", action="version", version=__version__)
    kinds = parser.add_subparsers(metavar="KIND", required=True)
    dlq.add_commands(kinds)
    checkpoints.add_commands(kinds)
    told = parser.parse_args(arguments)
    out = out or sys.stdout.buffer
    try:
        with asyncio.Runner() as runner:
            _run(runner, told, out)
        out.flush()
    except BrokenPipeError:
        # Whoever reads has enough, such as head. What is still buffered has nowhere to go at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except _ERRORS as error:
        print(f"mapreduce: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201 - a command talks to people
        return 1
    return 0


def _run(runner: asyncio.Runner, told: argparse.Namespace, out: BinaryIO) -> None:
    settings = Settings.from_environment()
    store = open_store(
        settings.storage_url, S3Options(settings.s3_endpoint, settings.s3_region, settings.s3_path_style)
    )
    try:
        told.kind(runner, store, told, out)
    finally:
        runner.run(store.close())


if __name__ == "__main__":
    sys.exit(main())
