"""Every command is called by a test on the real cluster, which looks at what it does."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mapreduce_operator.cli.app import main, root

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


@pytest.mark.parametrize("group", [(), ("items",), ("dlq",), ("checkpoints",)])
def test_the_list_of_commands_is_of_whole_sentences(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, group: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*group, "--help"]) == 0
    lines = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert lines
    assert [line for line in lines if not re.fullmatch(r"  \w+ +[A-Z].*[^.]\.", line)] == []


def test_all_namespaces_are_offered_where_that_is_of_use(capsys: pytest.CaptureFixture[str]) -> None:
    offering = {path for path in [(), *commands(root)] if "--all-namespaces" in help_of(capsys, *path)}
    assert offering == {("status",), ("gc",)}


def help_of(capsys: pytest.CaptureFixture[str], *path: str) -> str:
    assert main([*path, "--help"]) == 0
    return capsys.readouterr().out


def test_how_a_duration_is_written_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for path in commands(root):
        told = " ".join(help_of(capsys, *path).split())
        for option in re.findall(r"(--[a-z-]+) DURATION(.*?)(?= --|$)", told):
            assert "such as" in option[1], (path, option)


def test_every_command_says_what_it_does_and_where_it_works() -> None:
    for path in commands(root):
        command: click.Command = root
        for name in path:
            assert isinstance(command, click.Group)
            command = command.commands[name]
        assert command.help, path
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"-n", "--context", "--kubeconfig"} <= options or path in {("validate",), ("completion",)}, path
