"""docs/tutorial.md: every command in it is run, in its order, and prints what stands below it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.tutorial import PROJECT, steps

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

NAMESPACE: Final = "tutorial"


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of somebody who has done what the tutorial asks for at its beginning."""
    kubeconfig = tmp_path / "kubeconfig"
    shutil.copy(os.environ["KUBECONFIG"], kubeconfig)
    remove = ("kubectl", "delete", "namespace", NAMESPACE, "--ignore-not-found")
    subprocess.run(remove, check=True, timeout=300)
    # kubectl mapreduce is installed beside the tests.
    yield {**os.environ, "KUBECONFIG": str(kubeconfig), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run((*remove, "--wait=false"), check=True, timeout=60)


def test_every_command_does_what_the_tutorial_says(shell: dict[str, str]) -> None:
    for step in steps():
        done = subprocess.run(
            ["bash", "-c", step.command],
            cwd=PROJECT,
            env=shell,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=400,
        )
        wanted = "\n".join(step.output)
        told = f"tutorial.md:{step.line}: {step.command}\n--- printed\n{done.stdout}--- as the tutorial says\n{wanted}"
        assert done.returncode == 0, told
        assert re.fullmatch(step.pattern(), done.stdout), told
