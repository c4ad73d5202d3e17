"""Ways to break the scheduler: each replaces one piece of its source, and the random histories must notice."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

from pipeline.executors.schedule import Scheduler

MODULES = ("ledger", "backlog", "actors", "schedule")  # in the order in which they import each other


@dataclass(frozen=True)
class Mutant:
    """A scheduler with `old` replaced by `new` in one of its modules."""

    module: str
    old: str
    new: str

    def load(self) -> type[Scheduler]:
        modules: dict[str, ModuleType] = {}
        sources = {f"pipeline.executors.{name}": self._source(f"pipeline.executors.{name}") for name in MODULES}
        for name, source in sources.items():
            modules[name] = ModuleType(name)
            with patch.dict(sys.modules, modules):
                exec(source, modules[name].__dict__)
        scheduler: type[Scheduler] = modules["pipeline.executors.schedule"].Scheduler
        return scheduler

    def _source(self, module: str) -> str:
        spec = find_spec(module)
        assert spec is not None and spec.origin is not None
        source = Path(spec.origin).read_text(encoding="utf-8")
        if not module.endswith(f".{self.module}"):
            return source
        assert source.count(self.old) == 1, f"{module} has {self.old!r} {source.count(self.old)} times"
        return source.replace(self.old, self.new)


MUTANTS = {
    "bytes of a finished task are never released": Mutant("ledger", "self.bytes -= task.bytes", "pass"),
    "actual bytes are not counted": Mutant("ledger", "self.bytes += size - task.bytes", "pass"),
    "load slots are not given back": Mutant("ledger", "self.loads -= not task.done", "pass"),
    "the estimate of a chunk's bytes is never raised": Mutant("ledger", "max(self._bytes_row, size", "min(size, size"),
    "the cap is ignored": Mutant("schedule", "if ledger.bytes and ledger.bytes + reserved >", "if 0 >"),
    "a chunk beyond the cap never starts": Mutant(
        "schedule", "if ledger.bytes and ledger.bytes +", "if ledger.bytes +"
    ),
    "a late load is kept": Mutant(
        "schedule",
        "            self._out.append(ev.Drop(event.task))\n        elif not task.done:\n            self._ledger",
        "            pass\n        elif not task.done:\n            self._ledger",
    ),
    "a duplicate prediction counts": Mutant(
        "schedule", "        elif not task.done:\n            task.done", "        else:\n            task.done"
    ),
    "images are kept after the prediction": Mutant("schedule", "            self._let_go(task.load)\n", ""),
    "the death of an old generation counts": Mutant(
        "schedule", "if not self._actors.is_current(event.slot, event.generation):\n            return", "pass"
    ),
    "a dead actor is not replaced": Mutant(
        "schedule", "self._out.append(ev.StartActor(slot, self._actors.generation(slot)))", "pass"
    ),
    "a dead actor's tasks are forgotten": Mutant(
        "schedule",
        "            self._backlog.wait_for_actor(task.of, task.chunk, task.load)\n        return",
        "        return",
    ),
    "an actor's room is not given back": Mutant(
        "actors", "        self._by_load[len(actor.tasks)][slot] = None\n        if predicted", "        if predicted"
    ),
    "a poison unit is never quarantined": Mutant("schedule", "of.deaths += 1", "pass"),
    "the wrong unit is blamed for a death": Mutant(
        "schedule", "self._ledger.tasks[tasks[0]]", "self._ledger.tasks[tasks[-1]]"
    ),
    "tasks of a failed attempt go on": Mutant("schedule", "self._out.append(ev.Cancel(number))\n\n", "pass\n\n"),
    "an old deadline ends a new attempt": Mutant(
        "schedule", "if of is None or of.attempt != event.attempt:", "if of is None:"
    ),
    "a second attempt has no deadline": Mutant(
        "ledger", "self.begun = self.committing = False", "self.committing = False"
    ),
    "a failed unit is lost": Mutant(
        "schedule", "            self._next_attempt(of)\n        else", "            self._forget(of)\n        else"
    ),
    "a unit is quarantined too early": Mutant("schedule", "elif of.attempt < self.limits.max_attempts:", "elif 0:"),
    "a committed unit is committed again": Mutant(
        "schedule", "            self._forget(task.of)\n\n", "            self._next_attempt(task.of)\n\n"
    ),
    "the run ends with units open": Mutant(
        "schedule", "if not self._open and (", "if (self._exhausted and self._backlog.first_to_load() is None) or ("
    ),
    "a stop drops units that have begun": Mutant("schedule", "(untouched or self._abandoning)", "True"),
    "parts are committed in the order of arrival": Mutant(
        "schedule", "for chunk in sorted(of.parts)", "for chunk in of.parts"
    ),
    "lost images are predicted again": Mutant(
        "schedule",
        "        self._let_go(task.load)\n        self._backlog.wait_for_load(of, task.chunk)",
        "        self._backlog.wait_for_actor(of, task.chunk, task.load)",
    ),
    "actors that cannot start are tried for ever": Mutant(
        "schedule", "elif self._actors.failed_start(event.slot) < self.limits.max_actor_starts:", "elif True:"
    ),
    "a commit is tried again after a stop at once": Mutant("schedule", "if self._abandoning:", "if False:"),
    "lost images fail the attempt at once": Mutant(
        "schedule", "if not event.input_lost or of.reloads >= self.limits.max_reloads:", "if True:"
    ),
    "a deadline counts though no actor is up": Mutant(
        "schedule", "if not (self._actors.up or of.committing):", "if False:"
    ),
    "every load prolongs the deadline": Mutant("schedule", "if not of.begun:", "if True:"),
}
