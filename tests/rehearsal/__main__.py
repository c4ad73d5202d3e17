"""Rehearse deploy/ with what one machine has: `make rehearse`, as root, about ten minutes.

Slurm: deploy/slurm/pipeline.sbatch itself, with real `ray symmetric-run`, on two nodes with addresses of their own;
`srun` and `scontrol` are faked. It is told to stop as Slurm does, requeues itself, and goes on.

Kubernetes: `ray start` on a head without CPUs and on two workers, the CronJob's own script with its addresses
replaced, a second submission while the first runs, a worker that is evicted, and a night after in which nothing is new.

Both end with the catalogue of an undisturbed run. Prints one line a step.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from pipeline.executors.runner import run
from pipeline.executors.state import run_state
from pipeline.mock import MockSky, write_mock
from pipeline.storage import Storage
from tests.deploy_checks import ROOT
from tests.rehearsal.nodes import Node, nodes, wait_for
from tests.runs import assert_equal_catalogues, committed_rows, mock_job, summary_of, tiny_checkpoint
from tests.skies import scattered

OTHERS_END = 150  # s: a node notices after 60 s that the head is gone (ray_config_def.h, gcs_rpc_server_reconnect)
RESTARTS, SETTLED = 6, 5.0  # of a pod; s after which its processes are seen to live
SOURCES = 1200  # in 75 units: when the first is committed, most have not begun
SETTINGS = ("sources.columns.radius=radius", "units.sources=16", "units.chunk=8", "ways.use=[file]")
SCONTROL = """#!/usr/bin/env bash
case "$1" in
  show) printf '%s\\n' $NODE_ADDRESSES ;;
  requeue) echo "$2" >> "$SHARED/requeued" ;;
esac
"""
SRUN = """#!/usr/bin/env bash
# As srun: the same command with the same environment on every node. The others wait for a file that says it.
while [[ "$1" == --* ]]; do shift; done
{ export -p | grep -E ' (RAY|OMP)_'; printf '%q ' "$@"; } > "$SHARED/command.new"
mv "$SHARED/command.new" "$SHARED/command"
"$@"
"""
# It comes second: on a busy machine two nodes that start at once exceed the 30 s that Ray gives a node.
OTHER_NODE = """
until [[ -e "$SHARED/command" ]] && grep -q "Waiting for nodes" "$SHARED/slurm.log"; do sleep 0.2; done
bash -c "$(<"$SHARED/command")"
"""


def say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S', time.gmtime())} {text}\n")
    sys.stdout.flush()


def require(holds: bool, what: str) -> None:
    if not holds:
        raise SystemExit(f"FAILED: {what}")
    say(f"  {what}")


def committed(output: Path) -> int:
    return len(list(output.glob("units/*/*/*.json")))


@dataclass(frozen=True)
class Task:
    """What is run at every place."""

    sky: Path
    checkpoint: Path
    sources: Path

    def arguments(self, output: Path) -> list[str]:
        """Of `pipeline run`."""
        networks = f"networks={{dmagnet: {{checkpoint: {self.checkpoint}}}}}"
        settings = [word for setting in (networks, *SETTINGS) for word in ("--set", setting)]
        line = ["--survey", "decals", "--mirror", str(self.sky), "--sources", str(self.sources)]
        return [*line, "--output", str(output), *settings]


def task(folder: Path) -> Task:
    """A small sky, a tiny network, and sources enough to be stopped in."""
    sky = write_mock(folder / "sky", sky=MockSky(columns=2, rows=2, brick_pixels=500, galaxies=48, stars=8)).root
    return Task(sky, tiny_checkpoint(folder), scattered(sky, folder / "sources.parquet", SOURCES))


class Slurm:
    """The batch script on two nodes."""

    def __init__(self, members: list[Node], folder: Path, line: list[str]) -> None:
        self._members, self._folder, self._line = members, folder, line
        (folder / "bin").mkdir()
        for name, text in (("scontrol", SCONTROL), ("srun", SRUN)):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        shutil.copy(ROOT / "deploy/slurm/pipeline.sbatch", folder)  # as Slurm does: bash reads while it runs

    def __call__(self, during: Callable[[], bool] | None = None) -> int:
        """One allocation; SIGTERM to the batch script, as `--signal=B:TERM@300` sends it, once `during` holds."""
        environment = {
            "PATH": f"{self._folder / 'bin'}:{os.environ['PATH']}",
            "SHARED": str(self._folder),
            "NODE_ADDRESSES": " ".join(node.address for node in self._members),
            "VENV": sys.prefix,
            "SLURM_JOB_ID": "42",
            "SLURM_JOB_NODELIST": "gpr[1-2]",
            "SLURM_JOB_NUM_NODES": str(len(self._members)),
            "SLURM_CPUS_PER_TASK": "2",
            "SLURM_GPUS_ON_NODE": "0",
            "TMPDIR": str(self._folder),
        }
        for left in ("command", "slurm.log"):
            (self._folder / left).unlink(missing_ok=True)
        first, *others = self._members
        waiting = [node.start(["bash", "-c", OTHER_NODE], "worker.log", **environment) for node in others]
        # The node's first process hands signals on to the script: the first of a namespace ignores them.
        script = 'bash "$0" "$@" & echo $! > "$SHARED/script"; code=0; wait $! || code=$?; exit $code'
        batch = first.start(
            ["bash", "-c", script, str(self._folder / "pipeline.sbatch"), *self._line], "slurm.log", **environment
        )
        if during is not None:
            wait_for("the point at which Slurm signals", during, batch)
            script_id = int((self._folder / "script").read_text())
            require(first.signal(signal.SIGTERM, script_id), "SIGTERM to the batch script")
        code = batch.wait(timeout=400)
        say(f"  the batch script ended with {code}")
        for process in waiting:  # `srun --wait=0` would wait for them
            process.wait(timeout=OTHERS_END)
        say("  Ray has ended on the other node too")
        return code


def rehearse_slurm(folder: Path, what: Task) -> Path:
    """Stopped by the scheduler, requeued, gone on with."""
    say("Slurm: two nodes, ray symmetric-run, SIGTERM to the batch script, requeued")
    output = folder / "slurm-output"
    (shared := folder / "slurm").mkdir()
    with nodes(shared, 2) as members:
        allocation = Slurm(members, shared, what.arguments(output))
        code = allocation(during=lambda: committed(output) > 0)
        require(code == 75, f"the stopped allocation ends with 75 (got {code}), {committed(output)} units committed")
        require((shared / "requeued").read_text().split() == ["42"], "it requeued itself, once")
        code = allocation()
        require(code == 0, f"the next allocation goes on and ends with 0 (got {code})")
    return output


def rehearse_kubernetes(folder: Path, what: Task) -> Path:
    """A head, two workers, the CronJob's script."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # as the operator gives it
    say("Kubernetes: a head without CPUs, two workers, the CronJob's own script")
    output = folder / "kubernetes-output"
    (shared := folder / "kubernetes").mkdir()
    with nodes(shared, 3) as (head, *workers):
        address = f"http://{head.address}:8265"
        pods = _pods(head, workers)
        script = cron_script(address, what.arguments(output))
        night = _submitted(script, shared / "night-1.log", address, pods[0])
        wait_for("the first commit", lambda: committed(output) > 0, night)
        again = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=200)
        require(again.returncode != 0, "a second submission while the first runs is refused")
        state = run_state(Storage(str(output)))
        require(state.writer is not None, f"status from outside: {state.committed} of {state.sources} committed")
        require(workers[-1].signal(signal.SIGTERM), "a worker is evicted")
        require(night.wait(timeout=400) == 0, "the night ends with success on the worker that is left")
        first = summary_of(output)
        night = _submitted(script, shared / "night-2.log", address, pods[0])
        require(night.wait(timeout=300) == 0, "the same id is free for the next night")
        second = summary_of(output)
        require((second["units_this_run"], second["bytes_read"]) == (0, 0), "which finds nothing new, fetches nothing")
        require(second["snapshot"] == first["snapshot"], "and leaves the snapshot as it is")
        for node in (*workers[:-1], head):
            node.signal(signal.SIGTERM)
        require([pod.wait(timeout=60) is not None for pod in pods] == [True] * 3, "all pods end when they are told to")
    return output


def _pods(head: Node, workers: list[Node]) -> list[subprocess.Popen[bytes]]:
    """One after the other: on a busy machine those that start at once exceed the 30 s that Ray gives a node."""
    start = ["ray", "start", "--block", "--object-store-memory=200000000", "--disable-usage-stats"]
    words = ["--head", "--num-cpus=0", "--dashboard-host=0.0.0.0"]
    pods = []
    for node in (head, *workers):
        pods.append(_pod(node, [*start, *words, f"--node-ip-address={node.address}"]))
        words = ["--num-cpus=2", f"--address={head.address}:6379"]
    return pods


def _pod(node: Node, line: list[str]) -> subprocess.Popen[bytes]:
    """Started again where it ends, as the kubelet does."""
    log = node.folder / f"{node.name}.log"
    for _ in range(RESTARTS):
        log.unlink(missing_ok=True)
        pod = node.start(line, log.name, RAY_JOB_STOP_WAIT_TIME_S="300")
        with suppress(SystemExit):
            wait_for("its Ray", partial(_says, log, "Ray runtime started"), pod)
            time.sleep(SETTLED)
            if pod.poll() is None:
                return pod
        say("  a pod ended and is started again")
    raise SystemExit(f"FAILED: Ray does not start on {node.name}")


def _says(log: Path, words: str) -> bool:
    return log.exists() and words in log.read_text(errors="replace")


def cron_script(address: str, line: list[str]) -> str:
    """The CronJob's script, with the addresses of this rehearsal."""
    _, cron = yaml.safe_load_all((ROOT / "deploy/kuberay/cronjob.yaml").read_text())
    text: str = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"][0]
    text = text.replace("http://galaxy-head-svc:8265", address)
    before, _, after = text.partition("pipeline run --update")
    kept = after[after.index("--executor ray") :].replace("engine.gpus_per_actor=1", "engine.gpus_per_actor=0")
    kept = kept.replace("engine.loads=32", "engine.loads=2")
    return f"set -euo pipefail; {before}env PYTHONPATH={ROOT} pipeline run --update {shlex.join(line)} {kept}"


def _submitted(script: str, log: Path, address: str, head: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    def listens() -> bool:
        listed = ["ray", "job", "list", "--address", address]
        return subprocess.run(listed, capture_output=True, check=False).returncode == 0

    wait_for("the job server", listens, head)
    with log.open("wb") as file:
        return subprocess.Popen(["bash", "-c", script], stdout=file, stderr=subprocess.STDOUT)


@contextmanager
def showing(folder: Path) -> Iterator[None]:
    """Show the ends of the logs of a rehearsal that fails."""
    try:
        yield
    except (SystemExit, TimeoutError, subprocess.TimeoutExpired):
        for log in sorted(folder.glob("*.log")):
            say(
                f"--- {log.name}\n"
                + "\n".join(line[:200] for line in log.read_text(errors="replace").splitlines()[-30:])
            )
        raise


def main() -> None:
    """Both rehearsals, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("places", nargs="*", choices=["slurm", "kubernetes"], default=["slurm", "kubernetes"])
    chosen = parser.parse_args().places
    if os.geteuid() != 0:
        raise SystemExit("rehearse as root: nodes are network namespaces")
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory(prefix="rehearsal-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        what = task(folder)
        run(
            mock_job(what.sky, what.checkpoint, f"sources.table={what.sources}", *SETTINGS), str(folder / "undisturbed")
        )
        wanted = committed_rows(folder / "undisturbed")
        say(f"an undisturbed run commits {wanted.num_rows} sources")
        for place in chosen:
            rehearse = rehearse_slurm if place == "slurm" else rehearse_kubernetes
            with showing(folder / place):
                output = rehearse(folder, what)
            assert_equal_catalogues(committed_rows(output), wanted)
            say("  the catalogue is that of the undisturbed run")


if __name__ == "__main__":
    main()
