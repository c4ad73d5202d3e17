"""What a run says of itself: JSON lines for programs and, where tensorboard is installed, event files for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

LINES = "metrics.jsonl"
EVENTS = "events"


class Journal:
    """Appends to `metrics.jsonl` and to `events/`. Lines of steps that a resumed run takes again are cut off."""

    def __init__(self, folder: Path, step: int) -> None:
        """`folder` exists; `step` is the one that the run begins after."""
        self._path = folder / LINES
        kept = [line for line in self._read() if json.loads(line)["step"] <= step]
        self._path.write_text("".join(f"{line}\n" for line in kept))
        self._file = self._path.open("a", buffering=1)
        self._events = _event_writer(folder / EVENTS, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._events is not None:
            self._events.close()

    def write(self, step: int, part: str, values: Mapping[str, float]) -> None:
        """One line: the step, `train` or `validation`, and the numbers."""
        self._file.write(json.dumps({"step": step, "part": part, **values}) + "\n")
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(f"{part}/{name}", value, step)

    def _read(self) -> list[str]:
        """The whole lines so far; one that a kill cut short is dropped."""
        if not self._path.exists():
            return []
        text = self._path.read_text()
        return text[: text.rfind("\n") + 1].splitlines()


def _event_writer(folder: Path, step: int) -> Any:
    """A TensorBoard writer that hides what an earlier try wrote after `step`; None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
