"""The API reference says what the models say, all of it, and is up to date."""

import re
from pathlib import Path

import pytest

from mapreduce_operator.api import reference
from mapreduce_operator.api.crd import RESOURCES

DOCUMENT = Path(__file__).parents[3] / "docs" / "api-reference.md"


@pytest.fixture(name="tables")
def _tables() -> dict[str, dict[str, list[str]]]:
    """Rows by name of the field, without it, by heading."""
    found: dict[str, dict[str, list[str]]] = {}
    for section in re.split(r"^##+ ", reference.reference(), flags=re.MULTILINE)[1:]:
        title, *lines = section.splitlines()
        rows = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in lines if line.startswith("| `")]
        found[title] = {row[0].strip("`"): row[1:] for row in rows}
    return found


def test_the_file_is_what_the_models_say() -> None:
    assert reference.main(["--check", str(DOCUMENT)]) == 0, "run `make crds`"


def test_every_field_of_every_type_has_a_row(tables: dict[str, dict[str, list[str]]]) -> None:
    for resource in RESOURCES:
        schema = resource.model.model_json_schema(by_alias=True, mode="validation")
        assert [*tables[resource.kind]] == ["spec", "status"]
        for name, inner in schema["$defs"].items():
            if "properties" in inner and name != "ObjectMeta":
                assert [*tables[name]] == [*inner["properties"]]


def test_every_link_leads_to_a_table(tables: dict[str, dict[str, list[str]]]) -> None:
    targets = set(re.findall(r"\(#(\w+)\)", reference.reference()))
    assert targets == {title.lower() for title in tables}


@pytest.mark.parametrize(
    ("heading", "field", "cells"),
    [
        ("MapWork", "maxParallel", ["integer", "`10`", "0 to 10,000"]),
        ("MapWork", "template", ["[PodTemplate](#podtemplate)", "required", "-"]),
        ("MapWork", "retry", ["[Retry](#retry)", "-", "-"]),
        ("MapReduceJobSpec", "suspendPolicy", ["string", "`Drain`", "`Drain`, `Interrupt`"]),
        ("MapReduceJobSpec", "params", ["map of any JSON", "-", "at most 64 entries"]),
        ("MemoryIncrease", "factor", ["number", "`1.5`", "more than 1; at most 10"]),
        ("CheckpointPolicy", "pinned", ["set of integer", "-", "at most 32 entries; each: 0 to 9,999,999,999"]),
        ("Input", "items", ["list of any JSON", "-", "at most 50,000 entries"]),
        ("PodSpec", "containers", ["list of [Container](#container)", "required", "1 to 10 entries"]),
        ("PodSpec", "restartPolicy", ["string", "-", "`Never`"]),
        ("TemplateMetadata", "labels", ["map of string", "-", "at most 64 entries; each: at most 63 characters"]),
        ("Selection", "all", ["boolean", "-", "`true`"]),
        ("Condition", "lastTransitionTime", ["time", "required", "-"]),
    ],
)
def test_a_row_has_type_default_and_limits(
    tables: dict[str, dict[str, list[str]]], heading: str, field: str, cells: list[str]
) -> None:
    assert tables[heading][field][:3] == cells


def test_every_field_is_described(tables: dict[str, dict[str, list[str]]]) -> None:
    assert [(title, field) for title, rows in tables.items() for field, row in rows.items() if not row[3]] == []


def test_a_bar_in_a_limit_does_not_end_its_cell(tables: dict[str, dict[str, list[str]]]) -> None:
    assert (
        tables["MemoryIncrease"]["maxMemory"][2]
        == r"at most 32 characters; `^[0-9]+(\.[0-9]+)?(k\|M\|G\|T\|Ki\|Mi\|Gi\|Ti)?$`"
    )


def test_rules_stand_below_the_table() -> None:
    assert "\nRules:\n\n- maxSeconds must not be less than initialSeconds\n" in reference.reference()


def test_a_check_shows_the_difference_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "reference.md"
    assert reference.main([str(file)]) == 0
    changed = file.read_text().replace("0 to 10,000", "0 to 9,999")
    file.write_text(changed)

    assert reference.main(["--check", str(file)]) == 1
    assert re.search(
        r"^-.*`maxParallel`.* 0 to 9,999 .*\n\+.*`maxParallel`.* 0 to 10,000 ", capsys.readouterr().out, re.MULTILINE
    )
    assert file.read_text() == changed


def test_a_check_notices_a_missing_file(tmp_path: Path) -> None:
    assert reference.main(["--check", str(tmp_path / "reference.md")]) == 1
    assert list(tmp_path.iterdir()) == []
