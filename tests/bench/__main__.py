"""The benchmark: the operator and a bare client run the same Jobs in turns, in one cluster of simulated nodes.

`make bench` brings up what it needs. Only ratios of one run mean something: machines are noisy, and all of them differ.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from kubernetes import config

from tests.bench.contestants import check_window, restart_operator, run_bare_client, run_operator
from tests.bench.figures import Figures, table, total
from tests.bench.simulated_nodes import simulated_nodes

_WARM_UP_ITEMS: Final = 100
_CONTESTANTS: Final = {"operator": run_operator, "bare client": run_bare_client}
_TELL_SECONDS: Final = 5.0


def main() -> int:
    """0: measured. 1: failed, or not done in time."""
    arguments = _arguments()
    signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(arguments.timeout)
    # As Ctrl-C does: nodes, namespaces and kwok are cleared away.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.load_kube_config()  # type: ignore[no-untyped-call]
    check_window(arguments.window)
    runs: dict[str, list[Figures]] = {name: [] for name in _CONTESTANTS}
    with simulated_nodes(arguments.log):
        restart_operator()
        for number, name in enumerate(_CONTESTANTS):
            _run(name, f"bench-warm-up-{number}", _WARM_UP_ITEMS, arguments.window)
        for number in range(arguments.rounds):
            # Each in turn is the first: a machine that gets slower, or a cluster that fills up, favours none.
            for name in sorted(_CONTESTANTS, reverse=number % 2 == 0):
                namespace = f"bench-{name.split()[0]}-{number}"
                runs[name].append(_run(name, namespace, arguments.items, arguments.window))
    ours, theirs = total(runs["operator"]), total(runs["bare client"])
    _say("", *table(ours, theirs))
    if arguments.json:
        report = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": _machine(),
            "commit": _commit(),
            "items": arguments.items,
            "window": arguments.window,
            "ratio": ours.items_per_second / theirs.items_per_second,
            "runs": {name: [run.as_json() for run in figures] for name, figures in runs.items()},
        }
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--items", type=int, default=2000, help="of each run (default: %(default)s)")
    parser.add_argument("--window", type=int, default=500, help="items at work at once (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each contestant (default: %(default)s)")
    parser.add_argument("--timeout", type=int, default=600, help="seconds for all of it (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--log", type=Path, default=Path(os.devnull), metavar="FILE", help="what kwok says")
    return parser.parse_args()


def _run(name: str, namespace: str, items: int, window: int) -> Figures:
    """One run of a contestant, told of while it lasts."""
    began = told = time.monotonic()
    terminal = sys.stdout.isatty()

    def progress(done: int) -> None:
        nonlocal told
        now = time.monotonic()
        if terminal or now - told >= _TELL_SECONDS:
            told = now
            line = f"    {done:,} of {items:,} items after {now - began:.0f} s"
            sys.stdout.write(f"\r{line:<60}" if terminal else f"{line}\n")
            sys.stdout.flush()

    _say(f"==> {name}: {items:,} items, {window} at once")
    figures = _CONTESTANTS[name](namespace, items, window, progress)
    line = f"    {items:,} items in {figures.seconds:.1f} s, {figures.items_per_second:.1f} items/s"
    _say(f"\r{line:<60}" if terminal else line)
    return figures


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _too_late(*_: object) -> NoReturn:
    raise TimeoutError("the benchmark was not done in time; --timeout says how long it may take")


def _machine() -> dict[str, Any]:
    return {"cores": os.cpu_count(), "architecture": platform.machine(), "kernel": platform.release()}


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], check=False, text=True, capture_output=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
