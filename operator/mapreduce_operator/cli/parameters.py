"""What commands take: names of objects, durations, JSON, and how long to wait."""

import asyncio
import json
import math
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import yaml
from click.shell_completion import CompletionItem

from mapreduce_operator.adapters.kube import CredentialsError
from mapreduce_operator.adapters.kube.resources import DEAD_LETTER_QUEUES, MAPREDUCE_JOBS, Resource
from mapreduce_operator.cli.errors import CommandError
from mapreduce_operator.cli.kubectl_yaml import read
from mapreduce_operator.cli.session import Place, Session
from mapreduce_operator.ports import ClusterError

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]*")
_COMPLETION_SECONDS: Final = 3.0
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"(?=.)([0-9]{1,9}[smhd])*([0-9]{1,9})?")
"""Not the empty text: what a script has not set must not mean "at once"."""


class ObjectName(click.ParamType[str]):
    """The name of an object; a kind before it, as in mrj/words, is what kubectl prints and means nothing here."""

    name = "name"

    def __init__(self, resource: Resource) -> None:
        self._resource: Final = resource

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name = str(value).rpartition("/")[2]
        if not _NAME.fullmatch(name):
            self.fail(f"{value!r} is no name of an object", param, ctx)
        return name

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that are there; none where nobody answers in a moment."""
        del param
        try:
            names = asyncio.run(_names(ctx.find_root().ensure_object(Place), self._resource))
        except (ClusterError, CredentialsError, CommandError, TimeoutError):
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


async def _names(place: Place, resource: Resource) -> list[str]:
    async with asyncio.timeout(_COMPLETION_SECONDS), Session(place) as session:
        return [body["metadata"]["name"] for body in await session.all_of(resource)]


class Duration(click.ParamType[float]):
    """Seconds, as in kubectl: 90s, 10m, 1h30m, or a plain number."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float | int):
            return float(value)
        text = str(value)
        if not _DURATION.fullmatch(text):
            self.fail(f"{value!r} is no duration, such as 90s, 10m or 1h30m", param, ctx)
        return float(sum(int(number) * _UNITS[unit] for number, unit in re.findall("([0-9]+)([smhd]?)", text)))


class JsonValue(click.ParamType[Any]):
    """JSON on the command line, or @FILE with JSON or YAML in it."""

    name = "json"

    def __init__(self, *, kind: type[Any] = object) -> None:
        self._kind: Final = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            found = _in_file(Path(value[1:])) if value[:1] == "@" else _json(value)
        except (OSError, ValueError, yaml.YAMLError) as error:
            self.fail(f"{value!r} is no JSON, nor @FILE with JSON or YAML: {' '.join(str(error).split())}", param, ctx)
        if not isinstance(found, self._kind):
            self.fail(f"{value!r} is no JSON object", param, ctx)
        return found


def _in_file(path: Path) -> Any:
    found = list(read(path.read_text("utf-8")))
    if len(found) != 1:
        raise ValueError(f"it has {len(found)} documents")
    return found[0]


def _json(text: str) -> Any:
    """Raises ValueError, also for numbers that JSON does not have, which would be sent as null."""
    return json.loads(text, parse_constant=_finite, parse_float=_finite)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no number that JSON has")
    return number


class Setting(click.ParamType[tuple[str, Any]]):
    """NAME=VALUE. The value is JSON where it can be, and text otherwise."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        name, given, text = str(value).partition("=")
        if not name or not given:
            self.fail(f"{value!r} is not of the form NAME=VALUE", param, ctx)
        try:
            return name, _json(text)
        except ValueError:
            return name, text


class ItemPatch(click.ParamType[tuple[str, Any]]):
    """ID=JSON, where the JSON is an object. An id may have "=" in it."""

    name = "id=json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        name, given, patch = str(value), "=", ""
        while given:
            name, given, right = name.rpartition("=")
            patch = f"{right}{patch}"
            with suppress(ValueError):
                if name and isinstance(found := _json(patch), dict):
                    return name, found
            patch = f"={patch}"
        raise click.BadParameter(f"{value!r} is not of the form ID=JSON, with a JSON object", ctx, param)


# ------------------------------------------------------------------------------------------- arguments and options


def job_argument(function: FunctionT) -> FunctionT:
    """JOB, as the argument `job`."""
    return click.argument("job", type=ObjectName(MAPREDUCE_JOBS))(function)


def queue_argument(function: FunctionT) -> FunctionT:
    """QUEUE, as the argument `queue`."""
    return click.argument("queue", type=ObjectName(DEAD_LETTER_QUEUES))(function)


def dry_run_option(function: FunctionT) -> FunctionT:
    """--dry-run of commands that create something, as the argument `dry_run`."""
    what = "Ask the API server whether it would take it; make nothing."
    return click.option("--dry-run", is_flag=True, help=what)(function)


def result_option(function: FunctionT) -> FunctionT:
    """-o of commands that create something, as the argument `output`."""
    what = "Print the object, as it is at the end, and no progress."
    return click.option("-o", "--output", type=click.Choice(["name", "json", "yaml"]), default=None, help=what)(
        function
    )


def wait_options(what: str) -> Callable[[FunctionT], FunctionT]:
    """--wait and --timeout, as the arguments `wait` and `seconds`."""

    def add(function: FunctionT) -> FunctionT:
        timeout = click.option(
            "--timeout",
            "seconds",
            type=Duration(),
            default="1h",
            show_default=True,
            help="How long to wait, such as 90s, 10m or 1h30m.",
        )
        return click.option("--wait", is_flag=True, help=what)(timeout(function))

    return add
