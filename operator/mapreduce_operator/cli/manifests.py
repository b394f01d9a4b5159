"""The objects in files that people wrote."""

import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from mapreduce_operator.cli.errors import CommandError
from mapreduce_operator.cli.kubectl_yaml import read
from mapreduce_operator.cli.session import Body


def named(file: str) -> str:
    """A file for people."""
    return "standard input" if file == "-" else file


def kind_in_words(body: Body) -> str:
    """The kind of an object for people."""
    kind = body.get("kind")
    return f"a {kind}" if kind and isinstance(kind, str) else "an object without a kind"


def documents(file: str) -> Iterator[tuple[str, Body]]:
    """(where, object) of all documents in a file, or on standard input for "-"; raises CommandError."""
    where = named(file)
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
        found = list(read(text))
    except (OSError, UnicodeError) as error:
        raise CommandError(f"{where} cannot be read: {error}") from error
    except yaml.constructor.ConstructorError as error:
        raise CommandError(f"{where}: {error}") from error
    except yaml.YAMLError as error:
        raise CommandError(f"{where} is no YAML: {error}") from error
    bodies = [body for body in found if body is not None]
    for number, body in enumerate(bodies, start=1):
        place = where if len(bodies) == 1 else f"{where}, document {number}"
        if not isinstance(body, dict):
            raise CommandError(f"{place}: this is no object of Kubernetes, which begins with apiVersion and kind")
        yield place, body
