"""The command line: its answers, its exit codes, and what a killed run leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from tests.runs import assert_equal_catalogues, call, command, committed_rows, summary_of, undisturbed


def test_help_loads_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from pipeline.cli import app\n"
        "heavy = {'torch', 'ray', 'astropy', 'pyarrow', 'duckdb', 'pydantic'}\n"
        "result = CliRunner().invoke(app, ['--help'])\n"
        "print(result.exit_code, sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 []"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--output", "x"], "either --survey NAME or --job FILE"),
        (["run", "--survey", "decal", "--output", "x"], "did you mean decals?"),
        (["run", "--survey", "decals", "--output", "x", "--set", "engine.actor=1"], "did you mean actors?"),
        (["run", "--survey", "decals", "--mirror", "x"], "--output FOLDER_OR_URL"),
        (["run", "--survey", "decals", "--output", "x", "--max-time", "soon"], "such as 2h30m"),
        (["query", "nowhere", "--format", "tables"], "expected table, csv, parquet, votable, fits, json"),
        (["schema", "nothing"], "recommended or sources"),
    ],
)
def test_a_wrong_command_exits_2_and_says_what_is_expected(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = call(*arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path, mock_tree: Path, checkpoint: Path) -> None:
    (tmp_path / "file").touch()
    line = command(mock_tree, checkpoint, tmp_path / "file" / "out", "--executor", "local")
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "NotADirectoryError" in done.stderr


def test_an_archive_that_is_not_there_exits_4(tmp_path: Path, checkpoint: Path) -> None:
    line = command(tmp_path / "nowhere", checkpoint, tmp_path / "out", "--executor", "local")
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert "no such folder" in done.stderr


def test_the_dry_run_shows_the_plan_and_writes_nothing(tmp_path: Path, mock_tree: Path, checkpoint: Path) -> None:
    output = tmp_path / "out"
    done = subprocess.run(
        command(mock_tree, checkpoint, output, "--dry-run"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for word in (
        "units",
        "tiles",
        "footprint 0",
        "requests",
        "row, dmagnet",
        "B of attention map",
        "link busy",
        "whole files",
        "as planned",
        "node of 8 CPUs, 1 GPU",
        "/dev/shm 2 GiB",
        "cores of loads keep it busy",
        "CPU",
        "GPU",
        f"{output}/units/",
    ):
        assert word in done.stdout
    assert not output.exists()


def test_columns_beside_sql_are_refused_and_not_ignored(whole: Path) -> None:
    done = call("query", str(whole), "--sql", "SELECT 1 AS one", "--columns", "ra")
    assert done.returncode == 2
    assert "--sql says it all" in done.stderr


def test_a_catalogue_is_asked_for_a_part_of_it_on_screen_and_into_files(whole: Path, tmp_path: Path) -> None:
    rows = committed_rows(whole)
    first = rows.to_pylist()[0]
    place = ["--cone", str(first["ra"]), str(first["dec"]), "1"]
    shown = call("query", str(whole), *place)
    assert str(first["object_id"]) in shown.stdout and "dmagnet_p_spiral" in shown.stdout
    assert "run_id" not in shown.stdout
    listed = call("query", str(whole), "--id", str(first["object_id"]), "--format", "json", "--columns", "object_id,ra")
    assert json.loads(listed.stdout) == [{"object_id": first["object_id"], "ra": first["ra"]}]
    file = tmp_path / "some.fits"
    written = call("query", str(whole), "--where", "dec > -90", "--limit", "5", "--to", str(file))
    assert (written.returncode, written.stdout) == (0, "")
    assert file.read_bytes().startswith(b"SIMPLE")
    matched = call("query", str(whole), "--match", str(file), "--columns", "object_id", "--format", "csv")
    assert len(matched.stdout.splitlines()) == 6
    assert matched.stdout.splitlines()[0].endswith('"separation"')
    wrong = call("query", str(whole), "--columns", "object_ids")
    assert (wrong.returncode, "did you mean object_id" in wrong.stderr) == (1, True)


def test_status_verify_and_query_read_what_a_run_wrote(whole: Path) -> None:
    status = call("status", str(whole), "--json")
    verify = call("verify", str(whole))
    count = call("query", str(whole), "--sql", "SELECT count(*) AS galaxies FROM catalogue")
    sources = committed_rows(whole).num_rows
    assert json.loads(status.stdout)["committed"] == sources
    assert (verify.returncode, verify.stderr) == (0, "")
    assert str(sources) in count.stdout and "galaxies" in count.stdout


def test_verify_finds_a_flipped_byte_and_exits_1(tmp_path: Path, mock_tree: Path, checkpoint: Path) -> None:
    undisturbed(mock_tree, checkpoint, tmp_path)
    victim = next(tmp_path.glob("units/**/*.parquet"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    done = call("verify", str(tmp_path))
    assert done.returncode == 1
    assert victim.name in done.stderr


def test_a_reader_that_leaves_early_does_not_change_the_answer(whole: Path) -> None:
    """As in `pipeline query ... | head -1`."""
    line = [sys.executable, "-m", "pipeline", "query", str(whole), "--sql", "SELECT * FROM range(20000)"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.wait(60) == 0
        assert b"Traceback" not in process.stderr.read()


def test_the_version_is_told() -> None:
    assert call("--version").stdout.strip() == f"pipeline {pipeline.__version__}"


def test_markup_in_a_catalogue_is_shown_as_text(tmp_path: Path, whole: Path) -> None:
    done = call("query", str(whole), "--sql", "SELECT '[red]<script>[/red]' AS text FROM catalogue LIMIT 1")
    assert "[red]<script>[/red]" in done.stdout


def test_invalid_rows_are_refused_by_number_before_anything_runs(
    tmp_path: Path, mock_tree: Path, checkpoint: Path
) -> None:
    table = tmp_path / "sources.parquet"
    pq.write_table(
        pa.table({"object_id": [1, 2, 2], "ra": [150.0, float("nan"), 150.0], "dec": [2.0, 2.0, 2.0]}), table
    )
    line = command(mock_tree, checkpoint, tmp_path / "out", "--executor", "local", "--sources", str(table))
    refused = subprocess.run(line, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "row" in refused.stderr and "Traceback" not in refused.stderr
    skipped = subprocess.run([*line[:-2], "--sources", str(table), "--skip-invalid"], capture_output=True, text=True)
    assert skipped.returncode in (0, 2)


def test_a_killed_run_goes_on_to_the_same_catalogue(
    tmp_path: Path, whole: Path, mock_tree: Path, checkpoint: Path
) -> None:
    """SIGKILL of the driver while units are being committed; nothing committed is lost or done twice."""
    line = command(mock_tree, checkpoint, tmp_path, "--executor", "local")
    _signal_after_commits(line, tmp_path, signal.SIGKILL, commits=2)
    kept = len(list(tmp_path.glob("units/**/*.json")))
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    facts = summary_of(tmp_path)
    assert facts["units_this_run"] == facts["units"] - kept
    assert_equal_catalogues(committed_rows(tmp_path), committed_rows(whole))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_stopped_run_says_so_and_goes_on(
    tmp_path: Path, whole: Path, mock_tree: Path, checkpoint: Path, number: signal.Signals, code: int
) -> None:
    line = command(mock_tree, checkpoint, tmp_path, "--executor", "local")
    assert _signal_after_commits(line, tmp_path, number, commits=1) == code
    assert summary_of(tmp_path)["exit_code"] == code
    assert subprocess.run(line, capture_output=True, check=False).returncode == 0
    assert_equal_catalogues(committed_rows(tmp_path), committed_rows(whole))


def _signal_after_commits(line: list[str], output: Path, number: signal.Signals, commits: int) -> int:
    """Start the command, send the signal when so many units are committed; the exit code."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        until = time.monotonic() + 100
        while len(list(output.glob("units/**/*.json"))) < commits:
            assert process.poll() is None and time.monotonic() < until, "the run ended or hung before the signal"
            time.sleep(0.005)
        process.send_signal(number)
        return process.wait(100)
