"""What all commands have in common: how they are declared, where they work, how they fail and what they print.

    @command("show", everywhere=False)
    @click.argument("job")
    @output_option("table", "json")
    async def show(session: Session, job: str, output: str) -> None: ...

The function is run with a session that is open. It returns, or raises CommandError with an exit code.
"""

import asyncio
import io
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Final, TypeVar

import click

from mapreduce_operator.adapters.kube import CredentialsError
from mapreduce_operator.cli.apiserver import REQUEST_SECONDS
from mapreduce_operator.cli.errors import CommandError, ExitCode, explained
from mapreduce_operator.cli.parameters import Duration
from mapreduce_operator.cli.session import Place, Session
from mapreduce_operator.cli.text import length
from mapreduce_operator.core.expressions import ExpressionError
from mapreduce_operator.ports import ClusterError

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def command(
    name: str, *, everywhere: bool = False, offline: bool = False
) -> Callable[[Callable[..., Any]], click.Command]:
    """Makes a command of a coroutine function that takes a Session first.

    With `everywhere` it knows what -A means. With `offline` it is a plain function, takes no Session, and asks nobody.
    """

    def make(work: Callable[..., Any]) -> click.Command:
        @wraps(work)
        def run(**given: Any) -> None:
            place = _place()
            if place.all_namespaces and not everywhere:
                raise click.UsageError("-A is of no use here: this is about one object, whose namespace -n says")
            if place.as_groups and not place.as_user:
                raise click.UsageError("--as-group says which groups the one has that --as names: give --as as well")
            asyncio.run(_in_session(work, place, given))

        made = click.command(name)(work if offline else run)
        if not offline:
            made.params.extend([*PLACE, _all_namespaces(hidden=not everywhere)])
        return made

    return make


async def _in_session(work: Callable[..., Any], place: Place, given: dict[str, Any]) -> None:
    async with Session(place) as session:
        try:
            await work(session, **given)
        except ClusterError as error:
            raise explained(error, everywhere=place.all_namespaces) from error


COMPLETE_VARIABLE: Final = "_KUBECTL_MAPREDUCE_COMPLETE"
"""By which a shell says, in the environment, that it wants a command line completed."""


def run(root: click.Command, arguments: Sequence[str] | None, program: str) -> int:
    """Does what a command line says; returns the exit code, having told on stderr of what went wrong."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What agents say may be in any language, whatever the terminal can show.
        sys.stdout.reconfigure(errors="replace")
    try:
        answer = root.main(arguments, program, COMPLETE_VARIABLE, standalone_mode=False)
        sys.stdout.flush()
    except CommandError as error:
        return _failed(error)
    except (CredentialsError, ExpressionError) as error:
        return _failed(CommandError(str(error)))
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever reads has enough, such as head. What is still buffered has nowhere to go at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.ERROR
    except OSError as error:
        return _failed(CommandError(str(error)))
    return answer if isinstance(answer, int) else ExitCode.DONE


def _failed(error: CommandError) -> int:
    click.echo(f"error: {' '.join(str(error).split())}", err=True)
    return error.code


# ------------------------------------------------------------------------------------------------------------ options


def _place() -> Place:
    """That of the command line: one, whether its options stand before the command or after it."""
    return click.get_current_context().find_root().ensure_object(Place)


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None and value is not False and value != () and parameter.name is not None:
        setattr(context.find_root().ensure_object(Place), parameter.name, value)


PLACE: Final[Sequence[click.Parameter]] = [
    click.Option(
        ["-n", "--namespace"], expose_value=False, callback=_keep, help="Namespace; that of the context without it."
    ),
    click.Option(["--context"], expose_value=False, callback=_keep, help="Context of the kubeconfig."),
    click.Option(["--kubeconfig"], expose_value=False, callback=_keep, help="Path of the kubeconfig."),
    click.Option(
        ["--operator-namespace"],
        envvar="MAPREDUCE_OPERATOR_NAMESPACE",
        expose_value=False,
        callback=_keep,
        help="Namespace of the operator, if it is not mapreduce-system.",
    ),
    click.Option(
        ["--as", "as_user"],
        metavar="USER",
        expose_value=False,
        callback=_keep,
        help="Act as this user. What lies in storage cannot be read so.",
    ),
    click.Option(
        ["--as-group", "as_groups"],
        metavar="GROUP",
        multiple=True,
        expose_value=False,
        callback=_keep,
        help="Act as somebody of this group; may be given several times, with --as.",
    ),
    click.Option(
        ["--request-timeout", "request_seconds"],
        type=Duration(),
        expose_value=False,
        callback=_keep,
        help=f"How long one request may take, such as 10s; 0: any time.  [default: {length(REQUEST_SECONDS)}]",
    ),
]
"""Options of every command, and of those above them."""


def _all_namespaces(*, hidden: bool) -> click.Option:
    """-A, which is understood everywhere, and of use to some commands."""
    return click.Option(
        ["-A", "--all-namespaces"],
        is_flag=True,
        expose_value=False,
        callback=_keep,
        hidden=hidden,
        help="In all namespaces.",
    )


def group(name: str, what: str, *commands: click.Command) -> click.Group:
    """Commands about the same thing."""
    return click.Group(name, help=what, commands=commands, params=[*PLACE, _all_namespaces(hidden=True)])


def output_option(*forms: str) -> Callable[[FunctionT], FunctionT]:
    """-o; the first of the forms is the default."""
    return click.option("-o", "--output", type=click.Choice(forms), default=forms[0], show_default=True)
