"""Inputs as people make them: a long list, compressed by gzip and put into a ConfigMap by kubectl."""

import gzip
import json
from pathlib import Path

import pytest

from tests.e2e.sandbox import Sandbox, condition, job

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

LINES = 20_000
OK = """echo '{"ok":true}' > "$MAPREDUCE_RESULT_FILE" """


def test_a_few_items_are_taken_from_a_long_compressed_list(sandbox: Sandbox, tmp_path: Path) -> None:
    paths = (
        {"path": f"archive/2026/department-{n % 97:02d}/report-{n:06d}.txt", "size": n % 5000} for n in range(LINES)
    )
    packed = tmp_path / "files.jsonl.gz"
    packed.write_bytes(gzip.compress("".join(json.dumps(one) + "\n" for one in paths).encode()))
    sandbox.kubectl("create", "configmap", "files", f"--from-file={packed}")
    body = job("few", [], OK)
    body["spec"]["input"] = {
        "configMapRef": {"name": "files", "key": packed.name, "format": "JSONLines"},
        "filter": "item.size >= 4990 && !item.path.contains('report-00')",
        "orderBy": [{"expression": "item.size", "order": "Descending"}, {"expression": "item.path"}],
        "idExpression": "item.path",
        "offset": 1,
        "limit": 3,
    }
    name = sandbox.create(body)
    status = sandbox.until_finished(name, 300)
    assert status["items"]["succeeded"] == 3
    # Of those from 10,000 on, two have each of the ten sizes.
    counts = {one: status["plan"][one] for one in ("read", "filteredOut", "duplicates", "outOfRange", "items")}
    assert counts == {"read": LINES, "filteredOut": LINES - 20, "duplicates": 0, "outOfRange": 17, "items": 3}
    assert condition(status, "PlanCurrent")["reason"] == "InputUnchanged"


def test_a_list_that_grows_when_it_is_decompressed_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    packed = tmp_path / "bomb.gz"
    packed.write_bytes(gzip.compress(b"1\n" * (40 * 1024**2)))
    sandbox.kubectl("create", "configmap", "bomb", f"--from-file={packed}")
    body = job("bomb", [], OK)
    body["spec"]["input"] = {"configMapRef": {"name": "bomb", "key": packed.name, "format": "JSONLines"}}
    name = sandbox.create(body)
    status = sandbox.until(name, lambda status: condition(status, "Stalled")["status"] == "True")
    assert condition(status, "Accepted")["reason"] == "InputTooLarge"
    assert sandbox.jobs() == []
