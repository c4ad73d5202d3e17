"""A process that reads spoilt files, one after the other: C code that dies takes this process with it, and no more."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.fuzz.specimens import Specimen

CPU = 20.0  # s of the processor for one file of some kilobytes, on a machine however busy
SILENCE = 150.0  # s without an answer of one that waits
SHM = Path("/dev/shm")  # in memory, where waiting for a disk takes no time
MEMORY = 8 << 30  # bytes of address space: what a header promises may not be believed


@dataclass(frozen=True)
class Outcome:
    """What became of one file: "" where it was read, or refused with an error of our own."""

    refused: bool
    finding: str = ""


@dataclass
class Child:
    """The process, started again whenever it has died."""

    specimens: dict[str, Specimen]
    started: int = 0
    _process: BaseProcess | None = None
    _line: Connection | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def read(self, name: str, data: bytes) -> Outcome:
        """Have the reader `name` read the bytes."""
        line = self._begun()
        line.send((name, data))
        if not line.poll(SILENCE):
            self._end()
            return Outcome(False, f"HANG: no answer within {SILENCE:g} s")
        try:
            answer: Outcome = line.recv()
        except EOFError:
            return Outcome(False, _ended(self._end()))
        return answer

    def _begun(self) -> Connection:
        if self._line is None:
            context = get_context("spawn")
            self._line, theirs = context.Pipe()
            self._process = context.Process(target=serve, args=(theirs, self.specimens), daemon=True)
            self._process.start()
            theirs.close()
            self._line.recv()  # it is up
            self.started += 1
        return self._line

    def _end(self) -> int | None:
        """End the process, if there is one; its exit code, which is its own where it has ended before."""
        code = None
        if self._line is not None and self._process is not None:
            self._process.join(1.0)
            self._process.kill()
            self._process.join()
            self._line.close()
            code = self._process.exitcode
        self._line = self._process = None
        return code


def _ended(code: int | None) -> str:
    if code == -signal.SIGPROF:
        return f"HANG: more than {CPU:g} s of the processor"
    return f"CRASH: the process ended with {code}"


def serve(line: Connection, specimens: dict[str, Specimen]) -> None:
    """Read what comes, until the line is closed."""
    from tests.fuzz.readers import readers

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    faulthandler.disable()
    known = readers({name: specimen.data for name, specimen in specimens.items()})
    line.send("up")
    while True:
        try:
            name, data = line.recv()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, CPU)  # then the kernel ends this process
        line.send(_outcome(known[name], data))
        signal.setitimer(signal.ITIMER_PROF, 0)


def _outcome(read: Callable[[bytes, Path], None], data: bytes) -> Outcome:
    from pipeline.errors import PipelineError

    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=SHM if SHM.is_dir() else None) as folder:
        try:
            read(data, Path(folder))
        except PipelineError:
            return Outcome(True)
        except BaseException as error:  # noqa: BLE001 whatever it is, it is not ours
            frames = traceback.extract_tb(sys.exc_info()[2])
            places = [f"{Path(f.filename).stem}.{f.name}:{f.lineno}" for f in frames if "fuzz/child" not in f.filename]
            ours = [place for f, place in zip(frames[1:], places, strict=False) if "/pipeline/" in f.filename]
            return Outcome(False, f"{type(error).__name__} at {(ours or places)[-1]}: {str(error)[:150]!r}")
    return Outcome(False)
