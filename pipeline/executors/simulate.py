"""A cluster in virtual time around the real scheduler: how fast a run would be, and what binds it.

Loads share the archive's requests and bytes a second, first come first served, then use their own core; an actor
predicts one chunk after another; each driver handles one answer after another, with its own part of the cores and GPUs;
the run that hears several drivers takes its time for each answer too. Every answer comes, so deadlines are left out.
What the scheduler itself takes is measured while the simulation runs.

    python -m pipeline.executors.simulate           # 10 million and 1 billion galaxies on 1, 10 and 1,000 GPUs
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from heapq import heappop, heappush
from itertools import accumulate, product
from random import Random
from typing import Any

from pipeline.arguments import positive, within
from pipeline.data import WorkUnit
from pipeline.executors import events as ev
from pipeline.executors.costs import IMAGE_BYTES, Cluster, Costs, Workload
from pipeline.executors.events import Action, Event
from pipeline.executors.schedule import Counts, Scheduler
from pipeline.executors.sizing import drivers_for

ETA_CHUNKS = 6_000  # that a dry run simulates at most
ETA_CORES = 256  # on at most so many load cores
BUSY = 0.8  # fraction from which a resource counts as busy
TABLE_WIDTH = 160  # characters


@dataclass(frozen=True)
class Simulation:
    """What a run would take. Times are virtual, except in `events_second`."""

    sources: int
    seconds: float
    utilisation: Mapping[str, float]  # resource -> busy fraction
    counts: Counts
    events: int  # that the scheduler handled
    peak_bytes: int  # of images, reserved ones included
    bytes_cap: float  # for them
    extrapolated: str = ""  # from what; "" if every chunk was simulated
    events_second: float = field(default=0.0, compare=False)  # of the scheduler, in CPU time of this machine

    @property
    def images_second(self) -> float:
        return self.sources / self.seconds if self.seconds else 0.0

    @property
    def binds(self) -> str:
        """The resource that is busiest; where none is really busy and the images fill their room, that room."""
        busiest = max(self.utilisation, key=lambda name: self.utilisation[name])
        full = self.peak_bytes > BUSY * self.bytes_cap
        return "object store" if full and self.utilisation[busiest] < BUSY else busiest


def simulate(work: Workload, cluster: Cluster, costs: Costs | None = None, seed: int = 0) -> Simulation:
    """Play the whole run, event by event. Deterministic, but for `events_second`."""
    world = _World(work, cluster, costs or Costs(), seed)
    world.run_until(math.inf)
    return world.simulation(work.sources, world.now, world.busy)


def eta(work: Workload, cluster: Cluster, costs: Costs | None = None) -> Simulation:
    """The same in under a second, for a dry run: a part of the cluster, and of its work the beginning.

    Once a third of that beginning is committed, the rest of the run is taken to go on at the pace of the other two.
    """
    part, share = cluster.part(ETA_CORES)
    own = work.part(share)
    world = _World(own, part, costs or Costs(), seed=0)
    beginning = min(own.sources, ETA_CHUNKS * own.chunk_rows)
    if beginning == own.sources:
        world.run_until(math.inf)
        seconds, busy = world.now, world.busy
    else:
        world.run_until(beginning / 3)
        rows, started, before = world.rows, world.now, dict(world.busy)
        world.run_until(beginning)
        pace = (world.rows - rows) / (world.now - started)
        seconds = started + (own.sources - rows) / pace
        scale = seconds / (world.now - started)
        busy = {name: (world.busy[name] - before[name]) * scale for name in world.busy}
    what = f"{world.rows:,} of {work.sources:,} sources on {share:.2g} of the cluster"
    result = world.simulation(work.sources, seconds, busy)
    return replace(result, extrapolated=what if world.rows < work.sources else "")


@dataclass(eq=False)
class _Driver:
    """A scheduler, and until when its process is busy."""

    number: int
    scheduler: Scheduler
    first_slot: int  # of its actors, among all
    free: float = 0.0


class _World:
    """An executor in virtual time. Every resource knows until when its work lasts, and how long it was busy."""

    def __init__(self, work: Workload, cluster: Cluster, costs: Costs, seed: int) -> None:
        self._work, self._cluster, self._costs = work, cluster, costs
        self._random = Random(seed)
        count = cluster.schedulers
        limits = [cluster.limits(work, number) for number in range(count)]
        slots = [0, *accumulate(each.actors for each in limits)]
        self._drivers = [_Driver(number, Scheduler(each), slots[number]) for number, each in enumerate(limits)]
        self._answer_seconds = costs.driver_seconds * count / cluster.drivers
        self._told_seconds = costs.told_seconds * cluster.told_share
        self.now = 0.0
        self.rows = self.events = self.peak_bytes = 0  # rows committed
        self.cpu_seconds = 0.0  # of the scheduler
        self.busy = dict.fromkeys(("GPUs", "load cores", "archive requests", "network", "driver", "run"), 0.0)
        self._requests_free = self._network_free = self._run_free = 0.0
        self._actor_free = [0.0] * cluster.gpus
        self._heap: list[tuple[float, int, _Driver, Event]] = []
        self._pushed = 0
        self._planned = 0  # rows
        self._bytes: dict[tuple[int, int], int] = {}  # driver, load task -> reserved, then actual
        self._in_use = 0
        self._rows_of: dict[tuple[int, int], int] = {}  # driver, commit task -> rows
        self._carry_out: dict[type[Any], Callable[[_Driver, Any], None]] = {
            ev.NeedUnits: self._need_units,
            ev.StartActor: self._start_actor,
            ev.StartLoad: self._start_load,
            ev.StartPredict: self._start_predict,
            ev.StartCommit: self._start_commit,
            ev.Drop: self._release,
            ev.Cancel: self._release,
        }
        for driver in self._drivers:
            self._obey(driver, driver.scheduler.start())

    def run_until(self, rows: float) -> None:
        """Go on until so many rows are committed, or to the end."""
        while self._heap and self.rows < rows:
            self.now, _, driver, event = heappop(self._heap)
            self._hear(driver, event)
            started = time.process_time()
            actions = driver.scheduler.handle(event)
            self.cpu_seconds += time.process_time() - started
            self.events += 1
            self._obey(driver, actions)
        if not self._heap:  # the run is over once all is told
            self.now = max(self.now, self._run_free)

    def simulation(self, sources: int, seconds: float, busy: Mapping[str, float]) -> Simulation:
        """The result, with `busy` seconds of each resource over `seconds`: booked when the work begins."""
        size = {"GPUs": self._cluster.gpus, "load cores": self._cluster.load_cores, "driver": len(self._drivers)}
        return Simulation(
            sources=sources,
            seconds=seconds,
            utilisation={name: min(1.0, busy[name] / size.get(name, 1) / max(seconds, 1e-9)) for name in busy},
            counts=_sum([driver.scheduler.counts for driver in self._drivers]),
            events=self.events,
            peak_bytes=self.peak_bytes,
            bytes_cap=self._cluster.bytes_cap,
            events_second=self.events / max(self.cpu_seconds, 1e-9),
        )

    def _hear(self, driver: _Driver, event: Event) -> None:
        """The driver takes its time for each answer of a task, and so does the run."""
        if isinstance(event, ev.UnitsPlanned | ev.PlanExhausted | ev.ActorUp | ev.ActorLost):
            return
        self.busy["driver"] += self._answer_seconds
        self.busy["run"] += self._told_seconds
        self.now = driver.free = max(self.now, driver.free) + self._answer_seconds
        self._run_free = max(self.now, self._run_free) + self._told_seconds
        if isinstance(event, ev.LoadDone) and (driver.number, event.task) in self._bytes:
            self._count_bytes(event.bytes - self._bytes[driver.number, event.task])
            self._bytes[driver.number, event.task] = event.bytes
        elif isinstance(event, ev.CommitDone):
            self.rows += self._rows_of.pop((driver.number, event.task))

    def _obey(self, driver: _Driver, actions: list[Action]) -> None:
        for action in actions:
            if carry_out := self._carry_out.get(type(action)):
                carry_out(driver, action)

    def _happens(self, moment: float, driver: _Driver, event: Event) -> None:
        self._pushed += 1
        heappush(self._heap, (moment, self._pushed, driver, event))

    def _count_bytes(self, change: int) -> None:
        self._in_use += change
        self.peak_bytes = max(self.peak_bytes, self._in_use)

    def _need_units(self, driver: _Driver, action: ev.NeedUnits) -> None:
        units: list[WorkUnit] = []
        while len(units) < action.count and self._planned < self._work.sources:
            rows = self._work.chunk_rows
            left = self._work.sources - self._planned
            chunks = min(self._work.unit_chunks, math.ceil(left / rows))
            sizes = (rows,) * (chunks - 1) + (min(rows, left - rows * (chunks - 1)),)
            start, self._planned = self._planned, self._planned + sum(sizes)
            units.append(WorkUnit(f"{start}", "", start, self._planned, sizes))
        # One of several drivers has to wait for what it needs until the run has heard all that was told before.
        when = self.now if len(self._drivers) == 1 else max(self.now, self._run_free) + self._costs.exchange_seconds
        self._happens(when, driver, ev.UnitsPlanned(tuple(units)) if units else ev.PlanExhausted())

    def _start_actor(self, driver: _Driver, action: ev.StartActor) -> None:
        up = self.now + self._costs.actor_start_seconds
        self._actor_free[driver.first_slot + action.slot] = up
        self._happens(up, driver, ev.ActorUp(action.slot, action.generation))

    def _start_load(self, driver: _Driver, action: ev.StartLoad) -> None:
        costs, cluster, busy = self._costs, self._cluster, self.busy
        rows = action.unit.chunks[action.chunk]
        need = self._work.load_of(rows, costs)
        ask = need.requests / cluster.requests_second
        fetch = need.bytes / cluster.network_bytes_second
        alone = costs.latency_seconds + need.bytes / costs.load_bytes_second
        self._requests_free = max(self._requests_free, self.now) + ask
        self._network_free = max(self._network_free, self.now) + fetch
        fetched = max(self._requests_free, self._network_free, self.now + alone)
        busy["archive requests"] += ask
        busy["network"] += fetch
        busy["load cores"] += alone + need.seconds
        self._bytes[driver.number, action.task] = action.reserved
        self._count_bytes(action.reserved)
        failed, done = ev.LoadFailed(action.task, "simulated"), ev.LoadDone(action.task, rows * IMAGE_BYTES)
        self._happens(fetched + need.seconds, driver, failed if self._random.random() < costs.load_failures else done)

    def _start_predict(self, driver: _Driver, action: ev.StartPredict) -> None:
        took = action.unit.chunks[action.chunk] / self._costs.images_second
        slot = driver.first_slot + action.slot
        done = self._actor_free[slot] = max(self._actor_free[slot], self.now) + took
        self.busy["GPUs"] += took
        chance = self._random.random()
        if chance < self._costs.actor_deaths:
            self._happens(done, driver, ev.ActorLost(action.slot, action.generation, "simulated"))
        elif chance < self._costs.actor_deaths + self._costs.predict_failures:
            self._happens(done, driver, ev.PredictFailed(action.task, "simulated"))
        else:
            self._happens(done, driver, ev.PredictDone(action.task))

    def _start_commit(self, driver: _Driver, action: ev.StartCommit) -> None:
        self._rows_of[driver.number, action.task] = action.unit.rows
        self._happens(self.now + self._costs.commit_seconds, driver, ev.CommitDone(action.task))

    def _release(self, driver: _Driver, action: ev.Drop | ev.Cancel) -> None:
        self._count_bytes(-self._bytes.pop((driver.number, action.task), 0))


def _sum(counts: Sequence[Counts]) -> Counts:
    return Counts(*(sum(column) for column in zip(*(astuple(each) for each in counts), strict=True)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print how fast surveys of several sizes would run on clusters of several sizes, and what binds."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--galaxies", type=within(1, 1e12), nargs="+", default=[1e7, 1e9])
    parser.add_argument("--gpus", type=positive, nargs="+", default=[1, 10, 1000])
    parser.add_argument("--cores", type=positive, default=16, help="for loads, of each GPU's node")
    parser.add_argument("--chunk", type=positive, default=512, help="sources a chunk")
    parser.add_argument("--unit", type=positive, default=4096, help="sources a unit")
    parser.add_argument("--requests", type=within(1e-9, math.inf), default=math.inf, help="a second, of the archive")
    parser.add_argument("--archive", type=within(1e-9, math.inf), default=10.0, help="GB a second, of the archive")
    parser.add_argument("--drivers", type=positive, help="as many as the loads need, if not given")
    parser.add_argument("--quick", action="store_true", help="extrapolate, as the dry run does")
    chosen = parser.parse_args(arguments)
    results = []
    for galaxies, gpus in product(chosen.galaxies, chosen.gpus):
        work = Workload.of_survey(round(galaxies), chosen.unit, chosen.chunk)
        drivers = chosen.drivers or min(gpus, drivers_for(gpus * chosen.cores, chosen.chunk))
        cluster = Cluster.of_gpus(gpus, chosen.cores, chosen.archive * 1e9, chosen.requests, drivers)
        results.append((cluster, (eta if chosen.quick else simulate)(work, cluster)))
    _show(results)


def _show(results: Sequence[tuple[Cluster, Simulation]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    busiest = [name for name in results[0][1].utilisation if any(r.utilisation[name] >= 0.005 for _, r in results)]
    headings = ("galaxies", "GPUs", "drivers", "images/s", "hours", "binds", *(f"{name} %" for name in busiest))
    table = Table(*headings, "peak GB", "events", "events/CPU s", box=box.SIMPLE_HEAD, collapse_padding=True)
    for column in table.columns:
        column.justify, column.no_wrap = "right", True
    for cluster, result in results:
        rates = (f"{result.images_second:,.0f}", f"{result.seconds / 3600:.2f}", result.binds)
        busy = (f"{100 * result.utilisation[name]:.0f}" for name in busiest)
        scheduler = (f"{result.peak_bytes / 1e9:.1f}", f"{result.events:,}", f"{result.events_second:,.0f}")
        table.add_row(f"{result.sources:,}", f"{cluster.gpus:,}", f"{cluster.drivers:.0f}", *rates, *busy, *scheduler)
    console = Console(width=TABLE_WIDTH)
    console.print(table)
    for result in (result for _, result in results if result.extrapolated):
        console.print(f"{result.sources:,}: extrapolated from {result.extrapolated}")


if __name__ == "__main__":
    main()
