"""The objects in files that people wrote."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mapreduce_operator.cli.errors import CommandError
from mapreduce_operator.cli.session import Body


class _Loader(yaml.SafeLoader):
    """Refuses keys that are there twice, as kubectl does, and leaves dates the texts that they are in JSON."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Before anything is merged (<<) into the mapping, whose keys it may have as well.
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is a list or a mapping, and has to be a text", key.start_mark
                )
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
            seen.add((key.tag, key.value))
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def documents(file: str) -> Iterator[tuple[str, Body]]:
    """(where, object) of all documents in a file, or on standard input for "-"; raises CommandError."""
    where = "standard input" if file == "-" else file
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
        found = list(yaml.load_all(text, _Loader))
    except (OSError, UnicodeError) as error:
        raise CommandError(f"{where} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise CommandError(f"{where} is no YAML: {error}") from error
    bodies = [body for body in found if body is not None]
    for number, body in enumerate(bodies, start=1):
        place = where if len(bodies) == 1 else f"{where}, document {number}"
        if not isinstance(body, dict):
            raise CommandError(f"{place}: this is no object of Kubernetes, which begins with apiVersion and kind")
        yield place, body
