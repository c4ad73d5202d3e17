"""Memory and open files of every process over its life: what grows without end shows in the second half of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from statistics import median

import psutil

YOUNG = 300.0  # s: a process that did not live so long says nothing; on a busy machine it imports for a minute
MEGABYTES, FILES = 40.0, 16  # that the second half of a life may have more than its second quarter


@dataclass
class Life:
    """What was seen of one process."""

    role: str
    began: float
    seen: list[tuple[float, float, int]] = field(default_factory=list)  # s, MB, open files

    @property
    def seconds(self) -> float:
        return self.seen[-1][0] - self.began

    def growth(self) -> tuple[float, int]:
        """MB and open files that its last quarter has more than its second."""
        quarter = max(1, len(self.seen) // 4)
        early, late = self.seen[quarter : 2 * quarter] or self.seen[:1], self.seen[-quarter:]
        megabytes, files = ([median(row[n] for row in rows) for rows in (early, late)] for n in (1, 2))
        return megabytes[1] - megabytes[0], int(files[1] - files[0])


class Health:
    """Samples by process id."""

    def __init__(self) -> None:
        self._lives: dict[int, Life] = {}

    def sample(self, role: str, process: int) -> None:
        now = time.monotonic()
        try:
            found = psutil.Process(process)
            megabytes, files = found.memory_info().rss / 1e6, found.num_fds()
        except psutil.Error:
            return
        if not megabytes:  # it has ended, and nobody has asked how
            return
        self._lives.setdefault(process, Life(role, now)).seen.append((now, megabytes, files))

    def lines(self) -> tuple[list[str], bool]:
        """For each role its longest life, and whether every life was flat."""
        old = [life for life in self._lives.values() if life.seconds >= YOUNG]
        lines, flat = [], True
        for role in sorted({life.role for life in old}):
            lives = [life for life in old if life.role == role]
            longest = max(lives, key=lambda life: life.seconds)
            grown = [life.growth() for life in lives]
            flat &= all(megabytes < MEGABYTES and files < FILES for megabytes, files in grown)
            (megabytes, files), (_, most, handles) = longest.growth(), longest.seen[-1]
            lines.append(
                f"{role:14} {len(lives):3} processes, the longest {longest.seconds / 60:5.1f} min: {most:6.0f} MB "
                f"({megabytes:+.0f}), {handles} files ({files:+d}); most growth "
                f"{max(pair[0] for pair in grown):+.0f} MB, {max(pair[1] for pair in grown):+d} files"
            )
        return lines, flat
