"""The Slurm script under stand-ins for `srun`, `scontrol`, `ray` and `pipeline`, which write down their arguments."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from ray.scripts.symmetric_run import curate_and_validate_ray_start_args, symmetric_run

from tests.deploy_checks import check_options, check_pipeline, check_start, require

ENVIRONMENT = {
    "SLURM_JOB_ID": "42",
    "SLURM_JOB_NODELIST": "node[1-2]",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_CPUS_PER_TASK": "16",
    "SLURM_GPUS_ON_NODE": "1",
}
ARGUMENTS = ["--survey", "decals", "--mirror", "/data/sky", "--output", "/data/a catalogue"]
STAND_INS = {
    "scontrol": 'case "$1" in show) printf "node1\\nnode2\\n" ;; requeue) echo "$2" >> "$RECORD/requeued" ;; esac',
    "srun": 'printf "%s\\n" "$@" > "$RECORD/srun"; while [[ "$1" == --* ]]; do shift; done; "$@"',
    "ray": """
        trap 'echo ray >> "$RECORD/signalled"' TERM
        printf "%s\\n" "$@" > "$RECORD/ray"
        [[ ! -e "$RECORD/no-ray" ]] || exit 0
        until [[ $# -eq 0 || "$1" == -- ]]; do shift; done
        shift; "$@"
    """,
    "pipeline": """
        trap 'echo pipeline >> "$RECORD/signalled"; exit 75' TERM
        printf "%s\\n" pipeline "$@" > "$RECORD/pipeline"
        while [[ -e "$RECORD/busy" ]]; do sleep 0.02; done
        exit "$(<"$RECORD/code")"
    """,
}
# What the script may say to sbatch and srun (man sbatch, man srun), with the form of each value.
DIRECTIVES = {
    "job-name": r"[a-z-]+",
    "nodes": r"\d+",
    "ntasks-per-node": "1",
    "cpus-per-task": r"\d+",
    "gpus-per-node": r"\d+",
    "mem": r"\d+[KMGT]?",
    "exclusive": "",
    "time": r"(\d+-)?\d+:\d{2}:\d{2}",
    "signal": r"B:TERM@\d+",
    "requeue": "",
    "no-kill": "",
    "open-mode": "append",
    "output": r"\S*%j\S*",
}
STEP_OPTIONS = {"nodes", "ntasks-per-node", "cpus-per-task", "no-kill", "wait"}


@dataclass(frozen=True)
class Ended:
    """How the script ended, and what the stand-ins wrote down."""

    code: int
    record: Path

    def lines(self, name: str) -> list[str]:
        file = self.record / name
        return file.read_text().splitlines() if file.exists() else []


def run_script(
    text: str, folder: Path, *, code: int = 0, restarts: int = 0, stop: bool = False, ray: bool = True
) -> Ended:
    """The batch script with a pipeline that exits with `code`, or that works until the script gets SIGTERM.

    Without `ray`, Ray does not start, and `ray symmetric-run` answers 0 as it does then.
    """
    bin_folder = folder / "venv" / "bin"
    bin_folder.mkdir(parents=True)
    for name, script in STAND_INS.items():
        (bin_folder / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
        (bin_folder / name).chmod(0o755)
    (folder / "code").write_text(str(code))
    if not ray:
        (folder / "no-ray").touch()
    if stop:
        (folder / "busy").touch()
    (folder / "pipeline.sbatch").write_text(text)
    environment = ENVIRONMENT | {
        "PATH": "/usr/bin:/bin",
        "VENV": str(folder / "venv"),
        "RECORD": str(folder),
        "TMPDIR": str(folder),
        "SLURM_RESTART_COUNT": str(restarts),
    }
    command = ["bash", str(folder / "pipeline.sbatch"), *ARGUMENTS]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        if stop:
            _wait_for(folder / "pipeline")
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        finally:
            (folder / "busy").unlink(missing_ok=True)
    return Ended(process.returncode, folder)


def check_slurm(text: str, folder: Path) -> None:
    """Syntax, #SBATCH directives, and the commands that the script runs."""
    shell = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    require(shell.returncode == 0, shell.stderr)
    _check_directives(text)
    ended = run_script(text, folder)
    require(ended.code == 0, f"exit code {ended.code}")
    step = [word[2:].partition("=")[0] for word in ended.lines("srun") if word.startswith("--")]
    require(set(step[: step.index("address")]) <= STEP_OPTIONS, f"srun options {step}")
    words = ended.lines("ray")
    require(words[:1] == ["symmetric-run"] and "--" in words, f"expected ray symmetric-run ... --, got {words}")
    before = words[1 : words.index("--")]
    options = check_options(symmetric_run, before)
    require((options["address"], options["min_nodes"]) == ("node1:6379", 2), f"ray symmetric-run {before}")
    check_start(curate_and_validate_ray_start_args(before))
    joined = check_pipeline(ended.lines("pipeline"))
    require((joined["executor"], joined["address"]) == ("ray", "node1:6379"), "the run must join the step's Ray")
    require(joined["output"] == "/data/a catalogue", "the script's arguments must arrive whole")


def _check_directives(text: str) -> None:
    lines = text.splitlines()
    script = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    late = [line for line in lines[script:] if line.startswith("#SBATCH")]
    require(not late, f"Slurm ignores directives after the first command: {late}")
    found = {}
    for line in lines[:script]:
        if line.startswith("#SBATCH"):
            name, _, value = line.removeprefix("#SBATCH --").partition("=")
            form = DIRECTIVES.get(name)
            require(form is not None and re.fullmatch(form, value) is not None, f"directive {line}")
            found[name] = value
    require(found.keys() == DIRECTIVES.keys(), f"missing directives {sorted(DIRECTIVES.keys() - found.keys())}")


def _wait_for(file: Path) -> None:
    for _ in range(1000):
        if file.exists():
            return
        time.sleep(0.01)
    raise TimeoutError(f"{file.name} never started")
