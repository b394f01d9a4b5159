"""Every command is called by a test on the real cluster, which looks at what it does."""

import ast
from collections.abc import Iterator
from pathlib import Path

import click

from mapreduce_operator.cli.app import root

CALLS = {"cli", "json", "begin", "viewer", "nobody"}


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield *path, name


def called(source: str) -> Iterator[tuple[str, ...]]:
    """The first words of all command lines in a test."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            words = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            if name in CALLS:
                yield from (tuple(words[:1]), tuple(words[:2]))


def test_no_command_is_left_out() -> None:
    source = Path(__file__).resolve().parents[2] / "e2e" / "test_cli.py"
    assert set(commands(root)) - set(called(source.read_text())) == set()


def test_every_command_says_what_it_does_and_where_it_works() -> None:
    for path in commands(root):
        command: click.Command = root
        for name in path:
            assert isinstance(command, click.Group)
            command = command.commands[name]
        assert command.help, path
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"-n", "--context", "--kubeconfig"} <= options or path in {("validate",), ("completion",)}, path
