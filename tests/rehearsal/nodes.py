"""Nodes on one machine: namespaces with an address, processes, a /tmp/ray and a /dev/shm of their own.

So `ray start`, `ray stop` and signals meet what they would meet on separate machines. Needs root and iproute2.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PREFIX = "gpr"  # of all names that are made, at most 15 characters with what follows
NETWORK = "10.89.17"


@dataclass(frozen=True)
class Node:
    """One node; its name is its network namespace."""

    name: str
    address: str
    folder: Path  # shared by all nodes, as a parallel file system is

    def start(self, command: Sequence[str], log: str, **environment: str) -> subprocess.Popen[bytes]:
        """Run a command as the first process of the node; when it ends, all that it left behind ends too."""
        inside = (
            "mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray && mount -t tmpfs -o size=8g tmpfs /dev/shm && "
            f"hostname {self.name} && exec {shlex.join(command)}"
        )
        line = ["ip", "netns", "exec", self.name, "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts"]
        with (self.folder / log).open("ab") as file:
            return subprocess.Popen(
                [*line, "bash", "-c", inside],
                env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "NODE": self.name, **environment},
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def signal(self, number: signal.Signals, inside: int = 1) -> bool:
        """Send a signal to the process that has the id `inside` on the node; whether there is one.

        Not to what `start` gives: that is `unshare`, which lets SIGTERM pass by.
        """
        for pid in self._processes():
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:  # it has ended
                continue
            ids = [row.split()[1:] for row in status.splitlines() if row.startswith("NSpid")]
            if ids and len(ids[0]) > 1 and ids[0][-1] == str(inside):
                os.kill(pid, number)
                return True
        return False

    def remove(self) -> None:
        """End all that runs on it, and the node."""
        for pid in self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", f"{self.name}v"], check=False, capture_output=True)

    def _processes(self) -> list[int]:
        listed = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False)
        return [int(pid) for pid in listed.stdout.split()]


@contextmanager
def nodes(folder: Path, count: int) -> Iterator[list[Node]]:
    """Nodes 1 to `count` on one bridge; the machine itself has the address ending in .254."""
    made = [Node(f"{PREFIX}{n}", f"{NETWORK}.{n}", folder) for n in range(1, count + 1)]
    _ip("link", "add", f"{PREFIX}-br", "type", "bridge")
    try:
        _ip("addr", "add", f"{NETWORK}.254/24", "dev", f"{PREFIX}-br")
        _ip("link", "set", f"{PREFIX}-br", "up")
        for node in made:
            _connect(node)
        yield made
    finally:
        for node in made:
            node.remove()
        subprocess.run(["ip", "link", "del", f"{PREFIX}-br"], check=False, capture_output=True)


def _connect(node: Node) -> None:
    outer = f"{node.name}v"
    _ip("netns", "add", node.name)
    _ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", node.name)
    _ip("link", "set", outer, "master", f"{PREFIX}-br", "up")
    for words in (("addr", "add", f"{node.address}/24", "dev", "eth0"), ("link", "set", "eth0", "up")):
        _ip("-n", node.name, *words)
    _ip("-n", node.name, "link", "set", "lo", "up")
    _ip("-n", node.name, "route", "add", "default", "via", f"{NETWORK}.254")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def wait_for(what: str, holds: Callable[[], bool], working: subprocess.Popen[bytes], seconds: float = 300.0) -> None:
    """Until `holds()`, while `working` works. Raises TimeoutError, naming what never came."""
    deadline = time.monotonic() + seconds
    while not holds():
        if working.poll() is not None:
            raise SystemExit(f"FAILED: it ended with {working.returncode} before {what}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen in {seconds:g} s")
        time.sleep(0.5)
