"""Commands about what is around jobs: `gc`, `version`, `completion`; and how kubectl has a command line completed."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import click
from click.shell_completion import ShellComplete, get_completion_class

from mapreduce_operator import __version__
from mapreduce_operator.cli.errors import CommandError
from mapreduce_operator.cli.framework import COMPLETE_VARIABLE, command
from mapreduce_operator.cli.installed import OPERATOR, USERS, kubectl, pods_of
from mapreduce_operator.cli.parameters import Duration
from mapreduce_operator.cli.session import Session

PLUGIN: Final = "kubectl-mapreduce"
_FILES, _NO_FILES = ":0", ":4"
"""The last line that kubectl expects: whether names of files may stand there as well."""


@command("gc", everywhere=True)
@click.option(
    "--older-than",
    type=Duration(),
    default="30d",
    show_default=True,
    help="For how long a job must be gone, such as 12h or 30d.",
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be deleted.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
async def gc(session: Session, *, older_than: float, dry_run: bool, output: str) -> None:
    """Deletes what storage keeps of jobs that are gone.

    These are the jobs of the namespace; with -A, of all namespaces. It is done in a pod of the operator: you need the
    right to exec there.
    """
    pod = (await pods_of(session, OPERATOR, "the rights to list pods and to create pods/exec"))[0]
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    where = f"--namespace={session.namespace}" if session.namespace else "--all-namespaces"
    words = ["python", "-m", "mapreduce_operator.gc", where, f"--older-than={round(older_than)}s", f"--output={output}"]
    process = await kubectl(
        session, f"--namespace={namespace}", "exec", name, "--quiet", "--", *words, *(["--dry-run"] if dry_run else [])
    )
    if code := await process.wait():
        raise CommandError(f"gc ended with the code {code} in the pod {namespace}/{name}; it told why above")


@command("version")
async def version(session: Session) -> None:
    """Tells the versions of this command and of the operator."""
    click.echo(f"command    {__version__}")
    versions = Counter(
        (pod["metadata"]["labels"].get("app.kubernetes.io/version", "unknown"), pod["metadata"]["namespace"])
        for pod in await pods_of(session, OPERATOR, USERS)
    )
    for (told, namespace), pods in versions.items():
        click.echo(f"operator   {told} (namespace {namespace}, pods that are ready: {pods})")


@command("completion", offline=True)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Prints a script that completes command lines in a shell.

    These are command lines of the program `kubectl-mapreduce`. Those of `kubectl mapreduce` are completed by kubectl
    itself, with its own script: see `kubectl completion --help`.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise CommandError(f"there is no completion for {shell}")
    click.echo(kind(context.find_root().command, {}, PLUGIN, COMPLETE_VARIABLE).source())


def completions(root: click.Command, words: Sequence[str]) -> list[str]:
    """What kubectl prints for a plugin: a line for each way to end the last word, and whether files may stand there."""
    *before, incomplete = words or [""]
    found = ShellComplete(root, {}, PLUGIN, COMPLETE_VARIABLE).get_completions(before, incomplete)
    lines = [f"{one.value}\t{one.help}" if one.help else str(one.value) for one in found if one.type == "plain"]
    return [*lines, _FILES if any(one.type == "file" for one in found) else _NO_FILES]
