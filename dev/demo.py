"""The demo: applies examples/licence-words.yaml, shows it at work, prints the result, and says what to try next.

Needs nothing but Python and the kubectl that dev/tools.sh installed.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
EXAMPLE = "examples/licence-words.yaml"
NAME = "licence-words"
LIMIT_SECONDS = 300
WIDTH = 30


def kubectl(*arguments: str) -> str:
    return subprocess.run(["kubectl", *arguments], check=True, text=True, stdout=subprocess.PIPE, cwd=PROJECT).stdout


def main() -> int:
    if kubectl("get", "mrj", NAME, "--ignore-not-found", "--output", "name"):
        print(f"==> deleting the {NAME} of an earlier demo")
        kubectl("delete", "mrj", NAME, "--timeout", "90s")
    print(f"==> kubectl apply --filename {EXAMPLE}")
    kubectl("apply", "--filename", EXAMPLE)
    status = follow()
    if status.get("phase") != "Succeeded":
        print(kubectl("describe", "mrj", NAME))
        print(f"error: the job ended as {status.get('phase')}; its story is above", file=sys.stderr)
        return 1
    print_result(status["result"])
    print(NEXT)
    return 0


def follow() -> dict[str, Any]:
    """Shows progress until the job has ended; on a terminal in one line, elsewhere a line for each change."""
    began, shown = time.monotonic(), ""
    terminal = sys.stdout.isatty()
    while True:
        status: dict[str, Any] = json.loads(kubectl("get", "mrj", NAME, "--output", "json")).get("status", {})
        line = progress(status)
        if line != shown:
            print(f"\r{line:<78}" if terminal else line, end="" if terminal else "\n", flush=True)
            shown = line
        if "completionTime" in status:
            print("\n" if terminal else "")
            return status
        if time.monotonic() - began > LIMIT_SECONDS:
            print(kubectl("describe", "mrj", NAME))
            sys.exit(f"error: the job did not end within {LIMIT_SECONDS} s; its story is above")
        time.sleep(0.5)


def progress(status: dict[str, Any]) -> str:
    items = status.get("items", {})
    total = items.get("total", 0)
    done = items.get("succeeded", 0) + items.get("deadLettered", 0)
    bar = "#" * (WIDTH * done // total if total else 0)
    # Not items.running, which also holds those that ended since the last checkpoint.
    running = f"{status.get('active', 0)} running" if status.get("phase") != "Reduce" else "reducing"
    return f"    {status.get('phase', 'Pending'):<10} [{bar:<{WIDTH}}] {done}/{total} items, {running}"


def print_result(result: dict[str, Any]) -> None:
    print("Words of the licence texts in /usr/share/common-licenses, counted by one agent each:\n")
    for name, words in result["words"].items():
        print(f"    {name:<12} {words:>7,}")
    print(f"    {'-' * 20}\n    {'total':<12} {result['total']:>7,}\n")


NEXT = f"""What to try next:

    eval "$(dev/cluster/cluster.sh env)"        # kubectl and the cluster for this shell
    kubectl get mrj                             # all jobs
    kubectl describe mrj {NAME}          # the story of this one
    kubectl get mrj {NAME} -o jsonpath='{{.status.result}}'
    kubectl explain mrj.spec.map                # what can be set
    kubectl apply -f examples/flaky.yaml        # agents that fail at first: retries and dead letters
    kubectl get mrj flaky --watch
    make cluster-down                           # when you are done
"""

if __name__ == "__main__":
    sys.exit(main())
