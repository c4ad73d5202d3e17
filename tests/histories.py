"""Take the scheduler through as many random histories as there is patience for, on all cores.

python -m tests.histories --histories 100000            # prints the failing seed, if any, and how to replay it
python -m tests.histories --seed 7 --histories 1 -v     # one history, event by event
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor

from pipeline.executors.events import Action, Event
from tests.scheduler_world import Case, World

BATCH = 500  # histories a task


def main() -> int:
    """Run the histories of the seeds from `--seed` on. Exit code 1 if one breaks a rule."""
    options = _parser().parse_args()
    seeds = range(options.seed, options.seed + options.histories)
    if options.verbose:
        for seed in seeds:
            _play(seed, verbose=True)
        return 0
    return 1 if _soak(seeds, options.processes) else 0


def _soak(seeds: range, processes: int) -> str:
    """Play all the histories; the first failure's traceback, or ""."""
    started = time.monotonic()
    events = done = 0
    batches = [seeds[first : first + BATCH] for first in range(0, len(seeds), BATCH)]
    with ProcessPoolExecutor(processes) as pool:
        for batch, (count, failure) in zip(batches, pool.map(_play_all, batches), strict=True):
            if failure:
                _say(failure)
                pool.shutdown(cancel_futures=True)
                return failure
            events, done = events + count, done + len(batch)
            if done % (20 * BATCH) == 0 or done == len(seeds):
                seconds = time.monotonic() - started
                _say(f"{done:,} histories, {events:,} events, {seconds:.0f} s")
    return ""


def _play_all(seeds: range) -> tuple[int, str]:
    """The events of these histories, and what went wrong in the first that failed."""
    events = 0
    for seed in seeds:
        try:
            events += _play(seed)
        except (AssertionError, ArithmeticError, LookupError, TypeError, ValueError):
            replay = f"python -m tests.histories --seed {seed} --histories 1 -v"
            return events, f"{traceback.format_exc()}seed {seed} fails; replay it with\n    {replay}"
    return events, ""


def _play(seed: int, *, verbose: bool = False) -> int:
    world = World(Case.drawn(seed))
    if verbose:
        _say(f"{world.case}\n{world.limits}")
        world.run(_tell)
    else:
        world.run()
    return world.events


def _tell(event: Event | None, actions: list[Action]) -> None:
    _say("\n".join((f"{event}", *(f"    {action}" for action in actions))))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first history")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("-v", "--verbose", action="store_true", help="print every event and action")
    return parser


if __name__ == "__main__":
    sys.exit(main())
