"""What Argo CD, Flux and `helm --wait` make of our objects in every state, and that docs/gitops.md says so."""

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from mapreduce_operator.api import DeadLetterQueue, MapReduceJob, Phase, Redrive
from tests.unit.core.kstatus import kstatus
from tests.unit.gitops import argocd, flux
from tests.unit.gitops.scenes import CUSTOMIZATIONS, GITOPS, Body, files, outcomes, scenes

KINDS: Final = sorted(CUSTOMIZATIONS.iterdir())
DOCUMENT: Final = GITOPS.parent / "docs" / "gitops.md"
FILES: Final = {file: file.read_text() for file in sorted(GITOPS.rglob("*")) if file.is_file()}


def read(file: Path) -> Any:
    return yaml.safe_load(FILES[file.resolve()])


def cases(name: str, part: str) -> list[Any]:
    """The cases of Argo CD's own kind of tests, with the folder of their file."""
    return [
        pytest.param(
            file.parent, case, id=f"{file.relative_to(CUSTOMIZATIONS).parts[0]}-{Path(case['inputPath']).stem}"
        )
        for file in sorted(CUSTOMIZATIONS.rglob(name))
        for case in read(file)[part]
    ]


# ----------------------------------------------------------------------------------------------------------- the cases


def test_what_is_in_the_repository_is_what_the_operator_writes_today() -> None:
    wanted = files()
    written = {file for file in FILES if "testdata" in file.parts or file.name == "argocd-cm.yaml"}

    stale = {file.name for file, text in wanted.items() if _timeless(FILES.get(file, "")) != _timeless(text)}
    assert (stale, written - wanted.keys()) == (set(), set()), "run python -m tests.unit.gitops.scenes"


def _timeless(text: str) -> str:
    """When something happens in a scene is nothing that tools go by."""
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "", text)


def test_there_is_a_scene_of_every_phase_and_they_are_objects_of_ours() -> None:
    models = {model.__name__: model for model in (MapReduceJob, DeadLetterQueue, Redrive)}
    for (kind, _), body in scenes().items():
        models[kind].model_validate(body)

    phases = {body.get("status", {}).get("phase") for (kind, _), body in scenes().items() if kind == "MapReduceJob"}
    assert phases == {None, *Phase}


def test_every_scene_is_a_case_of_health_and_of_actions() -> None:
    for kind in KINDS:
        there = {file.stem for file in (kind / "testdata").iterdir()}
        assert {Path(case["inputPath"]).stem for case in read(kind / "health_test.yaml")["tests"]} == there
        if (kind / "actions").exists():
            tests = read(kind / "actions" / "action_test.yaml")
            assert {Path(case["inputPath"]).stem for case in tests["discoveryTests"]} == there
            scripts = {script.parent.name for script in kind.glob("actions/*/action.lua")}
            assert {case["action"] for case in tests["actionTests"]} == scripts
            assert {one["name"] for case in tests["discoveryTests"] for one in case["result"]} == scripts


# -------------------------------------------------------------------------------------------------------------- Argo CD


@pytest.mark.parametrize(("folder", "case"), cases("health_test.yaml", "tests"))
def test_health(folder: Path, case: Body) -> None:
    assert argocd.health(folder, read(folder / case["inputPath"])) == case["healthStatus"]


@pytest.mark.parametrize(("folder", "case"), cases("action_test.yaml", "discoveryTests"))
def test_actions_are_offered_where_they_have_an_effect(folder: Path, case: Body) -> None:
    assert argocd.discovered(folder.parent, read(folder / case["inputPath"])) == case["result"]


@pytest.mark.parametrize(("folder", "case"), cases("action_test.yaml", "actionTests"))
def test_an_action_changes_what_it_is_for_and_nothing_else(folder: Path, case: Body) -> None:
    kind, body = folder.parent, read(folder / case["inputPath"])
    offered = {one["name"] for one in argocd.discovered(kind, body)}
    creates = read(folder / case["expectedOutputPath"])["kind"] != kind.name
    done = (argocd.created if creates else argocd.patched)(kind, case["action"], body)

    assert case["action"] in offered
    assert Path(case["inputPath"]).stem == outcomes()[kind.name, case["action"]][0]
    assert done == read(folder / case["expectedOutputPath"])


def test_a_template_comes_back_from_an_action_as_it_was() -> None:
    body = read(CUSTOMIZATIONS / "MapReduceJob" / "testdata" / "running.yaml")
    pod = body["spec"]["map"]["template"]["spec"]
    pod |= {"volumes": [{"name": "cache", "emptyDir": {}}], "nodeSelector": {}, "tolerations": []}
    body["spec"]["params"] = {"depth": 3, "ratio": 0.25, "tags": [], "nested": {"empty": {}}}

    assert argocd.patched(CUSTOMIZATIONS / "MapReduceJob", "suspend", body)["spec"] == body["spec"] | {"suspend": True}


@pytest.mark.parametrize("item", [[None], [{}], 2**53 + 1], ids=["null", "empty-object", "large-integer"])
def test_what_is_lost_in_an_action_of_argo_cd_is_what_the_document_says(item: object) -> None:
    body = read(CUSTOMIZATIONS / "MapReduceJob" / "testdata" / "running.yaml")
    body["spec"]["input"]["items"] = ["a", item]

    assert argocd.patched(CUSTOMIZATIONS / "MapReduceJob", "suspend", body)["spec"]["input"] != body["spec"]["input"]


# ---------------------------------------------------------------------------------------------------------- conclusions


def conclusions(kind: str, body: Body) -> tuple[str, ...]:
    """Of Argo CD; of kstatus, as it is; of Flux with our expressions, which are for jobs alone."""
    plain = kstatus(body.get("status", {}), body["metadata"]["generation"])
    found = [argocd.health(CUSTOMIZATIONS / kind, body)["status"], plain]
    for name in ("until-they-run", "until-the-end"):
        by = flux.expressions(GITOPS / "flux" / f"{name}.yaml").get(kind)
        found.append(flux.judged(by, body) if by is not None else plain)
    return tuple(found)


def test_the_document_says_what_each_tool_concludes() -> None:
    rows = re.findall(r"^\| (\w+) `([\w-]+)` \| [^|]+ \| (.+) \|$", DOCUMENT.read_text(), re.MULTILINE)
    told = {(kind, name): tuple(cell.strip() for cell in cells.split("|")) for kind, name, cells in rows}

    assert told == {key: conclusions(key[0], body) for key, body in scenes().items()}


def test_no_tool_takes_a_job_for_ready_that_the_operator_has_not_seen() -> None:
    """As kstatus would without the status that the definition gives it: an object without conditions is current."""
    new = scenes()["MapReduceJob", "new"]

    assert kstatus({}, 1) == "Current"
    assert conclusions("MapReduceJob", new) == ("Progressing", "InProgress", "InProgress", "InProgress")
