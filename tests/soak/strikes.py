"""What a soak does to what runs: each strike hits something, waits where it must, and says what it did."""

from __future__ import annotations

import errno
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.soak.nodes import Nodes, send
from tests.standins.faults import Fault, FaultProxy, Plan

HUNT = 5.0  # s that a strike waits for its prey: a commit takes some milliseconds
JUMPS = (-108_000.0, -3600.0, -600.0, 0.0, 60.0, 3600.0, 108_000.0)  # s; 30 h is more than anything is believed


@dataclass
class Scene:
    """What there is to be hit."""

    dice: random.Random
    nodes: Nodes
    proxy: FaultProxy
    plan: Plan  # of the archive between two strikes
    disk: Path | None  # a small disk of its own
    clock: Path
    driver: Callable[[], int]  # its process id


def worker(role: str) -> Callable[[Scene], str]:
    """Kill a worker that does this, as soon as one is found."""

    def strike(scene: Scene) -> str:
        end = time.monotonic() + HUNT
        while time.monotonic() < end:
            found = scene.nodes.workers(role)
            if found and send(scene.dice.choice(found).pid, signal.SIGKILL):
                return f"SIGKILL to a {role}"
            time.sleep(0.02)
        return ""

    return strike


def driver(number: signal.Signals) -> Callable[[Scene], str]:
    return lambda scene: f"{number.name} to the driver" if send(scene.driver(), number) else ""


def node(scene: Scene) -> str:
    return f"node {scene.nodes.kill(scene.dice.randrange(2))} removed"


def half_dead_node(scene: Scene) -> str:
    """Its raylet gives no sign for a while, its workers go on."""
    raylet, seconds = scene.nodes.raylet(scene.dice.randrange(2)), scene.dice.uniform(1.0, 15.0)
    send(raylet, signal.SIGSTOP)
    time.sleep(seconds)
    send(raylet, signal.SIGCONT)
    return f"raylet {raylet} halted for {seconds:.1f} s"


def slow_node(scene: Scene) -> str:
    """Its workers get a fifth of the time."""
    number, seconds = scene.dice.randrange(2), scene.dice.uniform(5.0, 12.0)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        workers = scene.nodes.workers(number=number)
        for process in workers:
            send(process.pid, signal.SIGSTOP)
        time.sleep(0.8)
        for process in workers:
            send(process.pid, signal.SIGCONT)
        time.sleep(0.2)
    return f"a node at a fifth of its pace for {seconds:.1f} s"


def outage(scene: Scene) -> str:
    """The archive answers nothing but 503."""
    seconds = scene.dice.uniform(2.0, 8.0)
    scene.proxy.plan = lambda path, attempt: Fault.UNAVAILABLE
    time.sleep(seconds)
    scene.proxy.plan = scene.plan
    return f"the archive away for {seconds:.1f} s"


def full_disk(scene: Scene) -> str:
    if scene.disk is None:
        return ""
    seconds = scene.dice.uniform(2.0, 8.0)
    ballast = scene.disk / "ballast"
    try:
        with ballast.open("wb") as file:
            while True:
                file.write(b"x" * 65_536)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    time.sleep(seconds)
    ballast.unlink()
    return f"the disk full for {seconds:.1f} s"


def clock(scene: Scene) -> str:
    wrong = scene.dice.choice(JUMPS)
    scene.clock.write_text(str(wrong))
    return f"the clock {wrong:+,.0f} s off"


STRIKES: dict[str, tuple[int, Callable[[Scene], str]]] = {  # how often, of all together
    "load": (5, worker("load_chunk")),
    "actor": (4, worker("PredictActor")),
    "committer": (4, worker("commit_unit")),
    "limiter": (2, worker("HostLimits")),
    "driver killed": (2, driver(signal.SIGKILL)),
    "driver stopped": (1, driver(signal.SIGTERM)),
    "node": (2, node),
    "half-dead node": (2, half_dead_node),
    "slow node": (2, slow_node),
    "archive": (3, outage),
    "disk": (3, full_disk),
    "clock": (3, clock),
}


def drawn(dice: random.Random) -> str:
    """The next strike."""
    return dice.choices(list(STRIKES), [weight for weight, _ in STRIKES.values()])[0]
