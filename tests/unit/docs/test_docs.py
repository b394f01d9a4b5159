"""The documents say what is there: manifests, tasks, files and reasons."""

import ast
import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import click
import pytest
import yaml

from mapreduce_operator.api import (
    KIND,
    QUEUE_KIND,
    REDRIVE_KIND,
    Cause,
    DeadLetterPolicy,
    DeadLetterQueue,
    FailurePolicy,
    MapReduceJob,
    Phase,
    Reason,
    Redrive,
    RedriveSpec,
    lacks_map,
)
from mapreduce_operator.api.model import Model
from mapreduce_operator.cli.app import root
from mapreduce_operator.core.checkpoint import CommitReason
from mapreduce_operator.core.expressions import ExpressionError
from mapreduce_operator.core.failures import MEANINGS
from mapreduce_operator.core.letter_queries import FIELDS, LetterFilter
from mapreduce_operator.core.outcomes import Verdict
from mapreduce_operator.ports import StorageErrorReason

PROJECT: Final = Path(__file__).resolve().parents[3]
PACKAGE: Final = PROJECT / "operator" / "mapreduce_operator"
DOCUMENTS: Final = [
    *(
        PROJECT / name
        for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "charts/mapreduce-operator/README.md")
    ),
    *sorted((PROJECT / "docs").glob("*.md")),
    *sorted((PROJECT / "gitops").rglob("*.md")),
]
MODELS: Final[dict[str, type[Model]]] = {KIND: MapReduceJob, QUEUE_KIND: DeadLetterQueue, REDRIVE_KIND: Redrive}
DEAD_LETTERS: Final = PROJECT / "docs" / "dead-letters.md"
FAILURES: Final = PROJECT / "docs" / "failures.md"
TROUBLESHOOTING: Final = PROJECT / "docs" / "troubleshooting.md"

SOURCES_OF_REASONS: Final = (
    "core/phases.py",
    "core/conditions.py",
    "core/run.py",
    "core/course.py",
    "core/templates.py",
    "core/status.py",
    "core/plan.py",
    "core/startup.py",
    "core/starting.py",
    "core/story.py",
    "core/guard.py",
    "core/policies.py",
    "core/queue_report.py",
    "core/carrying.py",
    "core/forks.py",
    "core/requests.py",
    "core/redrive_report.py",
    "core/sizes.py",
    "engine/checkpointer.py",
    "engine/dispatcher.py",
    "engine/forking.py",
    "engine/input_watch.py",
    "engine/journal.py",
    "engine/loading.py",
    "engine/orphans.py",
    "engine/queue.py",
    "engine/redriving.py",
    "engine/requests.py",
    "engine/standing.py",
    "engine/troubles.py",
    "engine/planner.py",
)
"""Modules in which a reason is spelt as a text. All other reasons are members of an enumeration."""

NO_REASONS: Final = {
    # condition types, and their status
    *("Accepted", "CheckpointHealthy", "Complete", "Empty", "Finished", "Full", "Progressing", "Ready", "Reconciling"),
    *("PlanCurrent", "ResultsFit", "Stalled", "True"),
    # a phase of a Redrive
    "Running",
    # nouns
    *("Job", "Redrive"),
    # types of events, and how the reasons of some begin
    *("Normal", "Warning", "First"),
    # an event that no run comes to post: a plan becomes durable together with the phase Map
}
"""Single capitalised words in these modules that are no reason, or that nobody can meet."""


def named(document: Path) -> str:
    return str(document.relative_to(PROJECT))


def blocks(document: Path, language: str) -> Iterator[str]:
    yield from re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


def manifests() -> Iterator[Any]:
    """Every object of ours in the documents, with a name that tells where it stands."""
    for document in DOCUMENTS:
        for block in blocks(document, "yaml"):
            for body in yaml.safe_load_all(block):
                if isinstance(body, dict) and body.get("kind") in MODELS:
                    yield pytest.param(body, id=f"{named(document)}:{body['metadata']['name']}")


def filters_in(value: Any) -> Iterator[str]:
    """All that stands under a key `filter`, at any depth."""
    if isinstance(value, dict):
        for key, below in value.items():
            if key == "filter":
                yield below
            else:
                yield from filters_in(below)
    elif isinstance(value, list):
        for one in value:
            yield from filters_in(one)


def filters_of_the_documents() -> Iterator[str]:
    for document in DOCUMENTS:
        for block in blocks(document, "cel"):
            yield from (line for line in block.splitlines() if line and not line.startswith("//"))
    for manifest in manifests():
        yield from filters_in(manifest.values[0])


def calls_of_the_documents() -> Iterator[tuple[str, ...]]:
    """Command lines of `kubectl mapreduce`, without it and without what a shell makes of their output."""
    for document in DOCUMENTS:
        for language in ("sh", "console"):
            for block in blocks(document, language):
                for line in re.findall(r"^(?:\$ )?kubectl mapreduce (.*)$", block.replace("\\\n", ""), re.MULTILINE):
                    words = shlex.shlex(line, posix=True, punctuation_chars=";|&<>")
                    words.whitespace_split = True
                    yield tuple(takewhile(lambda word: not set(word) <= set(";|&<>"), words))


def leaves(command: click.Command) -> Iterator[click.Command]:
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from leaves(inner)
    else:
        yield command


def fields(value: Any, path: str = "") -> set[str]:
    """Paths of all fields; entries of lists share one, since some are sets."""
    inner = (
        value.items() if isinstance(value, dict) else (("", one) for one in value) if isinstance(value, list) else ()
    )
    return {path}.union(*(fields(below, f"{path}.{name}") for name, below in inner))


def spelt_out() -> set[str]:
    """Single capitalised words among the texts of the modules that spell reasons, but for docstrings."""
    words = set()
    for source in SOURCES_OF_REASONS:
        for node in ast.walk(ast.parse((PACKAGE / source).read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
    return {word for word in words if re.fullmatch(r"[A-Z][a-z]+([A-Z][a-z]+)*", word)}


def anchors(document: Path) -> set[str]:
    """What links into a document may name: its headings, as they are written in addresses."""
    titles = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def reasons_of_the_code() -> set[str]:
    first = {f"First{reason}" for reason in Reason}
    ends = {Phase.SUCCEEDED, Phase.PARTIALLY_SUCCEEDED, Phase.FAILED}
    return {
        *map(str, (*Reason, *Cause, *CommitReason, *StorageErrorReason, *ends)),
        *first,
        *(spelt_out() - NO_REASONS),
    }


def reasons_of_the_tables() -> set[str]:
    """First cells of the tables whose heading is "reason"."""
    found: set[str] = set()
    inside = False
    for line in TROUBLESHOOTING.read_text().splitlines():
        if not line.startswith("|"):
            inside = False
        elif line.startswith("| reason |"):
            inside = True
        elif inside and (match := re.match(r"\| `(\w+)` \|", line)):
            found.add(match[1])
    return found


@pytest.mark.parametrize("body", list(manifests()))
def test_every_manifest_in_the_documents_is_one(body: dict[str, Any]) -> None:
    if body["kind"] == KIND and lacks_map(body):
        body = body | {
            "spec": body["spec"] | {"map": {"template": {"spec": {"containers": [{"name": "agent", "image": "a"}]}}}}
        }
    one = MODELS[body["kind"]].model_validate(body)
    written = one.model_dump(mode="json", by_alias=True, exclude_unset=True)
    # Unknown fields are dropped on reading: what is left must be all there was.
    assert fields(written["spec"]) == fields(body["spec"])


def test_the_documents_have_manifests() -> None:
    kinds = [manifest.values[0]["kind"] for manifest in manifests()]
    assert set(kinds) == set(MODELS)
    assert len(kinds) >= 10


@pytest.mark.parametrize("text", list(filters_of_the_documents()))
def test_every_filter_in_the_documents_can_be_asked(text: str) -> None:
    LetterFilter(text)


def test_the_documents_have_filters() -> None:
    assert len(list(filters_of_the_documents())) >= 14


@pytest.mark.parametrize("wrong", ["letter.reason = 'Error'", "letter.size > 1"])
def test_a_wrong_filter_would_be_noticed(wrong: str) -> None:
    with pytest.raises(ExpressionError):
        LetterFilter(wrong)


def test_the_fields_of_a_letter_are_those_that_filters_have() -> None:
    fields_told = re.findall(
        r"^\| `(\w+)` \| (?:string|int|int or null|timestamp|list) \|", DEAD_LETTERS.read_text(), re.MULTILINE
    )
    assert fields_told == [*FIELDS, "history"]


@pytest.mark.parametrize(
    ("document", "model"), [(DEAD_LETTERS, RedriveSpec), (DEAD_LETTERS, DeadLetterPolicy), (FAILURES, FailurePolicy)]
)
def test_every_field_is_told_of(document: Path, model: type[Model]) -> None:
    names = [field.alias or name for name, field in model.model_fields.items()]
    assert [name for name in names if not re.search(rf"`{name}\b", document.read_text())] == []


@pytest.mark.parametrize("call", sorted(set(calls_of_the_documents())), ids=" ".join)
def test_every_call_of_the_command_line_is_one(
    call: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The command line takes it; what it does is another matter, and other tests'."""
    reached: list[str | None] = []
    for leaf in leaves(root):
        monkeypatch.setattr(leaf, "callback", lambda name=leaf.name, **_: reached.append(name))
    for file in (word for word in call if word.endswith(".yaml")):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)

    root.main(call, standalone_mode=False)
    assert len(reached) == (0 if call[-1] == "--help" else 1)


def test_every_command_is_described() -> None:
    rows = re.findall(r"^\| (`.*?) \|", (PROJECT / "docs" / "cli.md").read_text(), re.MULTILINE)
    described = {word for row in rows for word in re.findall(r"[a-z]+", row)}
    assert {*root.commands, *(leaf.name for leaf in leaves(root))} - described == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_task_exists(document: Path) -> None:
    tasks = set(re.findall(r"^([a-z0-9-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    code = re.findall(r"`([^`\n]+)`", document.read_text()) + list(blocks(document, "sh"))
    called = {task for text in code for task in re.findall(r"(?:^|\s)make ([a-z0-9-]+)", text)}
    assert called <= tasks


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_link_leads_somewhere(document: Path) -> None:
    # A pattern in code may look like a link.
    prose = re.sub(r"`[^`\n]*`", "", document.read_text())
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in target]
    wrong = []
    for target in targets:
        path, _, anchor = target.partition("#")
        file = document.parent / path if path else document
        if not file.exists() or (anchor and anchor not in anchors(file)):
            wrong.append(target)
    assert wrong == []


def test_the_index_lists_every_document() -> None:
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", (PROJECT / "docs" / "README.md").read_text()))
    assert listed == {document.name for document in (PROJECT / "docs").glob("*.md")} - {"README.md"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_file_that_is_named_exists(document: Path) -> None:
    """Names in code with a slash and a suffix that the project uses, relative to its root or to the package."""
    text = document.read_text()
    code = " ".join([*re.findall(r"`([^`\n]+)`", text), *blocks(document, "sh"), *blocks(document, "console")])
    files = re.findall(r"(?<![\w/.:{}-])[\w.-]+(?:/[\w.-]+)+\.(?:py|sh|ya?ml|md|toml)(?![\w/])", code)
    # templates/: of the chart, as its own documents write it
    roots = (PROJECT, PACKAGE, PROJECT / "charts" / "mapreduce-operator")
    assert [file for file in files if not any((root / file).exists() for root in roots)] == []


def test_every_reason_that_the_code_can_give_is_explained() -> None:
    assert reasons_of_the_code() - reasons_of_the_tables() == set()


def test_every_reason_that_is_explained_is_in_the_code() -> None:
    assert reasons_of_the_tables() - reasons_of_the_code() == set()


@pytest.mark.parametrize("reason", Reason)
def test_the_table_of_failures_is_the_one_in_the_code(reason: Reason) -> None:
    meaning = MEANINGS[reason]
    counts_as = "attempt" if meaning.verdict is Verdict.FAILED else "nothing" if meaning.excused else "interruption"
    row = f"| `{reason}` | {counts_as} | {meaning.action} | {meaning.wait} | {meaning.hint} |"

    assert row in TROUBLESHOOTING.read_text().splitlines()


def test_the_words_for_verdicts_are_those_of_the_architecture() -> None:
    text = (PROJECT / "docs" / "architecture.md").read_text()
    assert [verdict for verdict in Verdict if verdict not in text] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_no_placeholder_is_left(document: Path) -> None:
    assert re.findall(r"TIMING_\w+", document.read_text()) == []
