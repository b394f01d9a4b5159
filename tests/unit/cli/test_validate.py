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


def test_objects_of_others_are_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "list.yaml"
    file.write_text(f"kind: ConfigMap\n---\n{HEAD}spec: {{input: {{items: []}}, map: {{{AGENT}}}}}\n---\n")
    assert main(["validate", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{file}, document 1: passed over, since a ConfigMap is not of mapreduce.dev/v1alpha1",
        f"{file}, document 2: MapReduceJob words: valid",
    ]
    file.write_text("kind: ConfigMap")
    assert main(["validate", str(file)]) == 1
    assert "nothing to validate" in capsys.readouterr().err
