"""`python -m tests.soak --minutes 60`: kills for so long, then compares. Exit code 1 if anything is lost or grows."""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.soak.accounts import Account, account
from tests.soak.health import Health
from tests.soak.nodes import Nodes, nodes, role_of
from tests.soak.stage import Stage, stage
from tests.soak.strikes import STRIKES, Scene, drawn

ROOT = Path(__file__).parents[2]
CALM = 600.0  # s that the last catalogue gets once nothing strikes any more
DISK = 64  # MB


class Soak:
    """The supervisor: keeps a driver and two nodes up, strikes, watches and compares."""

    def __init__(self, made: Stage, around: Nodes, disk: Path | None, seed: int, journal: IO[bytes]) -> None:
        self._made, self._nodes, self._journal = made, around, journal
        self._dice = random.Random(seed)
        self._health, self._struck = Health(), Counter[str]()
        self._accounts: list[Account] = []
        self._exits: Counter[int] = Counter()
        self._began = time.monotonic()
        self._driver = self._started()
        self._scene = Scene(
            self._dice, around, made.proxy, made.plan, disk, made.folder / "clock", lambda: self._driver.pid
        )

    def strike_for(self, seconds: float) -> None:
        while time.monotonic() < self._began + seconds:
            pause = time.monotonic() + self._dice.uniform(2.0, 10.0)
            while time.monotonic() < pause:
                self._tend()
            name = drawn(self._dice)
            what = STRIKES[name][1](self._scene)
            if what:
                self._struck[name] += 1
                self._say(what)

    def calm(self) -> None:
        """Let the driver complete its catalogue, undisturbed but for the archive."""
        (self._made.folder / "stop").touch()
        (self._made.folder / "clock").write_text("0")
        end = time.monotonic() + CALM
        while time.monotonic() < end and self._driver.poll() != 0:
            self._tend()
        self._driver.kill()
        self._compare()

    def verdict(self) -> bool:
        """Print what came of it; whether all is well."""
        health, flat = self._health.lines()
        lost, doubled = sum(one.lost for one in self._accounts), sum(one.doubled for one in self._accounts)
        strikes = ", ".join(f"{count} {name}" for name, count in self._struck.most_common())
        exits = ", ".join(f"{count} with {code}" for code, count in sorted(self._exits.items()))
        _say(f"strikes: {self._struck.total()} ({strikes}); drivers ended: {exits or 'none'}")
        _say(f"archive: {self._made.faults} of {self._made.requests} requests failed")
        _say("\n".join(health))
        sources = sum(one.sources for one in self._accounts)
        same = sum(one.sound for one in self._accounts)
        kept = f"{lost} lost, {doubled} doubled; {same} as undisturbed"
        _say(f"catalogues: {len(self._accounts)}, {sources} sources: {kept}")
        _say(f"memory and open files {'flat' if flat else 'GROW'}; {(time.monotonic() - self._began) / 60:.1f} minutes")
        return bool(self._accounts) and same == len(self._accounts) and flat

    def _tend(self) -> None:
        """Replace what is gone, look at what lives, compare what is whole."""
        if (new := self._nodes.mend()) and self._struck:
            self._say(f"{new} new node(s)")
        if self._driver.poll() not in (None, 0):
            self._exits[self._driver.returncode] += 1
            self._driver = self._started()
        self._health.sample("driver", self._driver.pid)
        for name, process in self._nodes.daemons().items():
            self._health.sample(name.split()[0] if name.startswith("raylet") else name, process)
        for process in self._nodes.workers():
            role = role_of(process)
            self._health.sample(role if role in ("PredictActor", "HostLimits") else "worker", process.pid)
        self._compare()
        time.sleep(1.0)

    def _compare(self) -> None:
        while len(self._accounts) < self._rounds():
            number = len(self._accounts)
            output = self._made.folder / "disk" / f"round-{number:04d}"
            one = account(output, self._made.undisturbed)
            self._accounts.append(one)
            self._say(f"catalogue {number}: {one.sources} sources, {one.lost} lost, {one.doubled} doubled")
            for problem in one.problems:
                self._say(f"    {problem}")
            if one.sound:
                shutil.rmtree(output)

    def _rounds(self) -> int:
        return len(list((self._made.folder / "done").iterdir()))

    def _started(self) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-m", "tests.soak.driver", str(self._made.folder)]
        return subprocess.Popen(line, cwd=ROOT, stdout=self._journal, stderr=self._journal)

    def _say(self, what: str) -> None:
        _say(f"{time.monotonic() - self._began:6.0f} s  {what}")


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A tmpfs at `folder`, where this user may mount one; else the folder itself, and None: nothing fills it."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    _say(f"seed {options.seed}, {options.minutes:g} minutes")
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        with (
            small_disk(folder / "disk") as disk,
            nodes(folder / "clock") as around,
            stage(folder, around.address, options.seed) as made,
            (folder / "driver.err").open("wb") as journal,
        ):
            if disk is None:
                _say("no tmpfs can be mounted here: the disk is never full")
            soak = Soak(made, around, disk, options.seed, journal)
            soak.strike_for(60 * options.minutes)
            soak.calm()
            sound = soak.verdict()
            if not sound:
                shutil.copytree(folder, f"soak-{options.seed}", ignore_dangling_symlinks=True, dirs_exist_ok=True)
                _say(f"kept as soak-{options.seed}")
    return 0 if sound else 1


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
