"""What commands import before they do anything: a plan reads headers, and waits for no library that it can spare."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from pipeline.checkpoints import job_contracts, read
from pipeline.errors import CheckpointError
from pipeline.job import load_job
from pipeline.models.contract import StoredContract, read_contract

HEAVY = {"torch", "ray", "astropy", "httpx", "requests", "aiohttp", "safetensors", "galsim"}


def test_a_dry_run_imports_nothing_that_it_does_not_need(mock_tree: Path, tmp_path: Path) -> None:
    table = tmp_path / "sources.csv"
    table.write_text("object_id,ra,dec\n1,150.0,2.2\n2,150.1,2.3\n")
    command = f"run --survey decals --mirror {mock_tree} --sources {table} --output {tmp_path}/out --dry-run"
    script = (
        "import sys, pipeline.cli\n"
        f"try: pipeline.cli.app({command.split()})\n"
        "except SystemExit as done: code = done.code\n"
        f"print(code, sorted({HEAVY} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "dmagnet" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize("name", ["agcnn", "radio_agcnn"])
def test_a_header_alone_says_what_the_whole_checkpoint_says(name: str) -> None:
    job = load_job("decals", [f"networks={{one: {{checkpoint: 'shipped:{name}'}}}}"], environment={})
    (promised,), whole = job_contracts(job).values(), read(f"shipped:{name}")
    assert type(promised) is StoredContract
    for field in fields(StoredContract):
        assert getattr(promised, field.name) == getattr(whole, field.name), field.name


def test_a_checkpoint_of_another_length_than_its_header_says_is_refused(checkpoint: Path) -> None:
    data = checkpoint.read_bytes()
    for other in (data[:-1], data + b"\0"):
        with pytest.raises(CheckpointError, match="damaged or cut off: expected"):
            read_contract(other, "here")
