"""A run in the worst of worlds, by seed.

Operators die and are stopped, storage and the API server fail, agents are evicted, nodes vanish, people delete things.
Whatever happens, the audit's invariants hold.

    python -m tests.simulation.chaos --seeds 0-999 --processes 2
    python -m tests.simulation.chaos --seed 17 --verbose
    python -m tests.simulation.chaos --killed-at 57 4 --verbose
"""

import argparse
import gc
import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.simulation.chaos_run import Verdict, play
from tests.simulation.scenario import Life, quiet, scenario


def chaos(seed: int, trace: Callable[[str], None] | None = None, **more: Any) -> Verdict:
    """Runs the scenario of a seed."""
    return play(scenario(seed), trace, **more)


def replay(seed: int) -> str:
    """The command that shows what happened."""
    return f"python -m tests.simulation.chaos --seed {seed} --verbose"


def main() -> int:
    """0: all invariants held. 1: some did not; the seeds are printed."""
    options = _options()
    trace = print if options.verbose else None
    if options.killed_at:
        lives = [Life(dies_at=point, pause=0.3) for point in options.killed_at]
        return _report([play(quiet(*lives), trace)], options)
    if options.verbose:
        return _report([chaos(seed, trace) for seed in options.seeds], options)
    began = time.monotonic()
    verdicts = []
    # Collecting less often, as the operator does, saves a tenth of the time.
    rarely = (100_000, 50, 100)
    with multiprocessing.get_context("spawn").Pool(options.processes, gc.set_threshold, rarely) as pool:
        for verdict in pool.imap_unordered(chaos, options.seeds, chunksize=4):
            verdicts.append(verdict)
            _progress(verdicts, len(options.seeds), time.monotonic() - began)
    return _report(verdicts, options, time.monotonic() - began)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.chaos", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seeds", type=_range, help="seeds to run, such as 0-999")
    which.add_argument("--seed", type=_range, dest="seeds", help="one seed")
    which.add_argument("--killed-at", type=int, nargs="+", help="a small run whose operators die at these points")
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--verbose", action="store_true", help="print everything that happens")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")
    return parser.parse_args()


def _range(text: str) -> list[int]:
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def _progress(verdicts: list[Verdict], seeds: int, seconds: float) -> None:
    bad = sum(bool(verdict.violations) for verdict in verdicts)
    if sys.stderr.isatty() or len(verdicts) % 100 == 0:
        end = "\r" if sys.stderr.isatty() else "\n"
        rate = len(verdicts) / seconds
        print(f"{len(verdicts)}/{seeds} seeds, {bad} bad, {rate:.1f} per second", end=end, file=sys.stderr, flush=True)  # noqa: T201


def _report(verdicts: list[Verdict], options: argparse.Namespace, seconds: float = 0.0) -> int:
    bad = sorted((verdict for verdict in verdicts if verdict.violations), key=lambda verdict: verdict.seed)
    summary = {
        "seeds": len(verdicts),
        "bad": [verdict.seed for verdict in bad],
        "seconds": round(seconds, 1),
        "seedsPerSecond": round(len(verdicts) / seconds, 2) if seconds else None,
        "points": sum(verdict.points for verdict in verdicts),
        "jobs": sum(verdict.jobs for verdict in verdicts),
        "simulatedHours": round(sum(verdict.seconds for verdict in verdicts) / 3600, 1),
    }
    for verdict in bad:
        print(f"seed {verdict.seed}; replay: {replay(verdict.seed)}", file=sys.stderr)  # noqa: T201
        for violation in verdict.violations[:5]:
            print(f"    {violation}", file=sys.stderr)  # noqa: T201
    print(json.dumps(summary) if options.json else ", ".join(f"{key}: {value}" for key, value in summary.items()))  # noqa: T201
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
