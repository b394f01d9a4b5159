"""Files that are validated offline: what is said of each object in them."""

from pathlib import Path

import pytest

from mapreduce_operator.cli.app import main

PROJECT = Path(__file__).resolve().parents[3]
AGENT = "template: {spec: {containers: [{name: agent, image: debian}]}}"
HEAD = "apiVersion: mapreduce.dev/v1alpha1\nkind: MapReduceJob\nmetadata: {name: words}\n"


@pytest.mark.parametrize("example", sorted(path.name for path in (PROJECT / "examples").glob("[!v]*.yaml")))
def test_the_examples_are_valid(capsys: pytest.CaptureFixture[str], example: str) -> None:
    assert main(["validate", str(PROJECT / "examples" / example)]) == 0
    assert ": valid\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        (f"{HEAD}spec: {{map: {{{AGENT}}}}}", "spec.input: Required value: exactly one source of items"),
        (
            f"{HEAD}spec: {{input: {{items: [1, 1]}}, map: {{{AGENT}}}}}",
            "the operator: DuplicateItems: item 1 has the id",
        ),
        (
            f"{HEAD}spec: {{input: {{items: [1], idExpression: 'item.'}}, map: {{{AGENT}}}}}",
            "the operator: InvalidIdExpression: spec.input.idExpression",
        ),
        (
            f"{HEAD}spec: {{input: {{configMapRef: {{name: a, key: b}}, idExpression: 'itme.x'}}, map: {{{AGENT}}}}}",
            "the operator: InvalidIdExpression: spec.input.idExpression: 'itme.x': there is no variable 'itme'",
        ),
        (
            f"{HEAD}spec: {{input: {{object: {{key: b}}, filter: 'lower(item)'}}, map: {{{AGENT}}}}}",
            "the operator: InvalidFilter: spec.input.filter: 'lower(item)': there is no function 'lower'",
        ),
        (
            f"{HEAD}spec: {{input: {{items: [1], orderBy: [{{expression: '('}}]}}, map: {{{AGENT}}}}}",
            "the operator: InvalidOrderBy: spec.input.orderBy[0].expression: '('",
        ),
        (
            f"{HEAD}spec: {{forkFrom: {{job: {{name: a}}}}, input: {{idExpression: '('}}}}",
            "the operator: InvalidIdExpression: spec.input.idExpression: '('",
        ),
        (
            f"{HEAD}spec: {{input: {{items: [1]}}, map: {{{AGENT}, result: {{rule: '=='}}}}}}",
            "the operator: InvalidResultRule: spec.map.result.rule",
        ),
        (
            f"{HEAD}spec: {{input: {{items: [1]}}, map: {{{AGENT}, result: {{rule: 'resutl.ok'}}}}}}",
            "the operator: InvalidResultRule: spec.map.result.rule: 'resutl.ok': there is no variable 'resutl'",
        ),
        (
            f"{HEAD}spec: {{input: {{items: [1]}}, map: {{{AGENT}}}, params: {{a: {'x' * 20_000}}}}}",
            "the operator: ParamsTooLarge: spec.params are 20,008 bytes",
        ),
        (
            (
                "apiVersion: mapreduce.dev/v1alpha1\nkind: Redrive\nmetadata: {name: r}\n"
                "spec: {queue: words, selection: {filter: 'letter.colour == 1'}}"
            ),
            "the operator: InvalidFilter: ",
        ),
        (
            (
                "apiVersion: mapreduce.dev/v1alpha1\nkind: DeadLetterQueue\nmetadata: {name: q}\n"
                "spec: {jobRef: {name: words, uid: a}, eligibility: [{filter: '(', eligible: true}]}"
            ),
            "the operator: spec.eligibility[0].filter: ",
        ),
        (HEAD.replace("{name: words}", "words"), 'metadata: Invalid value: "string": must be of type object'),
        (HEAD.replace("v1alpha1", "v2") + "spec: {}", "apiVersion: 'mapreduce.dev/v2' is not served"),
    ],
)
def test_a_problem_is_told_with_its_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], manifest: str, told: str
) -> None:
    file = tmp_path / "words.yaml"
    file.write_text(manifest)
    assert main(["validate", str(file)]) == 1
    output = capsys.readouterr()
    assert f"\n  {told}" in output.out
    assert output.err == "error: 1 of 1 object would not be taken; correct what is named above\n"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{items: [1, 2]}", ["  2 items; first 6b86b273ff34fce1, d4735e3a265e16ee"]),
        (
            (
                "{items: [{f: c}, {f: a}, {}, {f: d}, {f: a}, {f: b}], filter: has(item.f), idExpression: item.f, "
                "orderBy: [{expression: item.f, order: Descending}], onDuplicate: KeepFirst, offset: 1}"
            ),
            ["  3 items of 6 read: 1 filtered out, 1 left out as duplicates, 1 out of range; first c, b, a"],
        ),
        ("{items: [a, b, c, d, e, f, g], idExpression: item}", ["  7 items; first a, b, c, d, e"]),
        ("{configMapRef: {name: files, key: list}, filter: item.n > 1}", []),
        ("{object: {key: a/b.csv.gz, format: CSV}}", []),
    ],
)
def test_what_would_be_planned_of_items_in_the_file_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, told: list[str]
) -> None:
    file = tmp_path / "words.yaml"
    file.write_text(f"{HEAD}spec: {{input: {source}, map: {{{AGENT}}}}}")
    assert main(["validate", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{file}: MapReduceJob words: valid", *told]


def test_objects_of_others_are_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "list.yaml"
    file.write_text(f"kind: ConfigMap\n---\n{HEAD}spec: {{input: {{items: []}}, map: {{{AGENT}}}}}\n---\n")
    assert main(["validate", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{file}, document 1: passed over, since a ConfigMap is not of mapreduce.dev/v1alpha1",
        f"{file}, document 2: MapReduceJob words: valid",
        "  0 items",
    ]
    file.write_text("a: 1")
    assert main(["validate", str(file)]) == 1
    output = capsys.readouterr()
    assert output.out == f"{file}: passed over, since an object without a kind is not of mapreduce.dev/v1alpha1\n"
    assert "nothing to validate" in output.err


@pytest.mark.parametrize(("key", "words"), [("yes", "'true'"), ("n", "'false'")])
def test_a_key_that_kubectl_would_change_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, words: str
) -> None:
    file = tmp_path / "words.yaml"
    file.write_text(f"{HEAD}spec: {{input: {{items: [{{{key}: 1}}]}}, map: {{{AGENT}}}}}")
    assert main(["validate", str(file)]) == 1
    assert f"the key {key} is not the text {key!r} but {words} to kubectl: put it in quotes" in capsys.readouterr().err
