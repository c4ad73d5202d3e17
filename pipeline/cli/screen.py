"""What a person sees: lines, tables and progress. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

if TYPE_CHECKING:
    from pipeline.executors import watch
    from pipeline.executors.session import Reporter

_NUMBER = int | float | Decimal | None  # DuckDB sums and counts into decimals
EXTRAS = {
    **dict.fromkeys(("torch", "ray", "astropy", "fitsio", "safetensors"), "run"),
    **dict.fromkeys(("PIL", "matplotlib"), "train"),
    "galsim": "mock",
}
LOG_SECONDS = 10.0  # between two progress lines where there is no terminal


class _Output(Console):
    """Goes on in silence where the reader has gone (`| head`): how a run ended must not depend on it."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# Without markup and emoji: what is shown holds names, paths and conditions, whose brackets and colons are their own.
out = _Output(highlight=False, soft_wrap=True, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


@contextmanager
def answers() -> Iterator[None]:
    """Turn the package's errors into one message and an exit code."""
    from pipeline.errors import PipelineError

    try:
        yield
    except PipelineError as error:
        from pipeline.executors.summary import error_code

        err.print(Text.assemble(("error: ", "bold red"), str(error)))
        raise typer.Exit(int(error_code(error))) from None
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        err.print(Text.assemble(("error: ", "bold red"), _missing(error.name)))
        raise typer.Exit(2) from None
    except OSError as error:  # the output's disk or store, or a file that is given: nothing is wrong with the program
        err.print(Text.assemble(("error: ", "bold red"), f"{type(error).__name__}: {' '.join(str(error).split())}"))
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        err.print("interrupted; the same command goes on where this run stopped")
        raise typer.Exit(130) from None


def _missing(module: str) -> str:
    extra = EXTRAS[module]
    return f"this needs {module}, which the query client does without: pip install 'galaxy-pipeline[{extra}]'"


def note(message: str, style: str = "") -> None:
    """One line for the reader, on stderr."""
    err.print(Text(message, style=style))


def facts(title: str, rows: Mapping[str, object]) -> None:
    """Names and values, one a line, on stdout."""
    width = max(map(len, rows), default=0)
    out.print(Text(title, style="bold"))
    for name, value in rows.items():
        out.print(Text.assemble((f"  {name:<{width}}  ", "dim"), str(value)))


def grid(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, figures: bool = False) -> None:
    """A table on stdout, whole whatever the width of the screen: numbers to the right, nothing cut off.

    `figures`: all columns but the first are numbers with their units, already written out.
    """
    texts = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, [name, *(row[i] for row in texts)])) for i, name in enumerate(columns)]
    right = [bool(rows) and all(isinstance(row[i], _NUMBER) for row in rows) for i in range(len(columns))]
    if figures:
        right = [number > 0 for number in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        aligned = (f"{cell:>{w}}" if r else f"{cell:<{w}}" for cell, w, r in zip(cells, widths, right, strict=True))
        return "  ".join(aligned).rstrip()

    out.print(Text(line(columns), style="bold"))
    for row in texts:
        out.print(Text(line(row)))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return f"{value:.8g}" if isinstance(value, float) else str(value)


@contextmanager
def reporter() -> Iterator[Reporter]:
    """A progress bar on a terminal, a line every ten seconds elsewhere."""
    from pipeline.executors.session import Reporter

    if not sys.stderr.isatty():
        yield Reporter(on_progress=_Lines(), on_log=note)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[failures]}", style="yellow"),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=False) as bar:
        yield Reporter(on_progress=_Bar(bar), on_log=lambda message: bar.console.print(Text(message)))


class _Bar:
    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("sources", total=None, rate="", failures="")

    def __call__(self, progress: watch.Progress) -> None:
        done = min(progress.sources, _done(progress))
        rate = f"{progress.images_per_second:.1f} images/s"
        self._bar.update(self._task, completed=done, total=progress.sources, rate=rate, failures=_failures(progress))


class _Lines:
    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, progress: watch.Progress) -> None:
        now = time.monotonic()
        if now - self._last < LOG_SECONDS:
            return
        self._last = now
        left = progress.seconds_left
        ending = "" if left is None else f", {duration(left)} left"
        failures = _failures(progress)
        note(
            f"{_done(progress)}/{progress.sources} sources, "
            f"{progress.units_committed}/{progress.units} units committed, "
            f"{progress.images_per_second:.1f} images/s{ending}{', ' + failures if failures else ''}"
        )


def _done(progress: watch.Progress) -> int:
    return max(progress.committed, progress.committed_before + progress.classified)


def _failures(progress: watch.Progress) -> str:
    fine = ("ok", "partial")
    return ", ".join(f"{count} {status}" for status, count in sorted(progress.statuses.items()) if status not in fine)


def rough(seconds: float) -> str:
    """90000 -> "1.0 days": how long something takes that nobody waits for with a watch."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.2g} s"


def count(number: float) -> str:
    """With commas, and from ten million on in millions."""
    return f"{number:,.0f}" if number < 1e7 else f"{number / 1e6:,.1f} M"


def duration(seconds: float) -> str:
    """90 -> "1m30s", as `--max-time` reads it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def size(number: float) -> str:
    """Bytes with a unit, powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
