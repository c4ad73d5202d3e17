"""Without torch, ray, astropy and fitsio the query client works, and the rest says what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_WITHOUT = (
    "import sys\n"
    "for name in ('torch', 'ray', 'astropy', 'fitsio', 'safetensors', 'galsim'): sys.modules[name] = None\n"
    "from pipeline.cli import main\n"
    "sys.argv = ['pipeline', *sys.argv[1:]]\n"
    "main()"
)


def _call(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", _WITHOUT, *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("verb", ["status", "verify"])
def test_the_query_client_looks_at_a_run(whole: Path, verb: str) -> None:
    done = _call(verb, str(whole))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_query_client_asks_the_catalogue(whole: Path) -> None:
    done = _call("query", str(whole), "--sql", "SELECT count(*) AS galaxies FROM catalogue")
    assert done.returncode == 0, done.stderr
    assert "galaxies" in done.stdout


def test_the_query_client_is_used_from_python_without_what_is_heavy(whole: Path) -> None:
    code = _WITHOUT.partition("from pipeline.cli")[0]
    code += (
        "from pipeline import open_catalogue\n"
        "from pipeline.errors import CatalogueError\n"
        "catalogue = open_catalogue(sys.argv[1])\n"
        "part = catalogue.where(\"status = 'ok'\").select('object_id', 'ra', 'dec')\n"
        "row = part.limit(1).to_table().to_pylist()[0]\n"
        "near = catalogue.cone(row['ra'], row['dec'], 1).to_duckdb().fetchall()\n"
        "assert len(near) == catalogue.match(part.limit(1).to_table()).num_rows == 1\n"
        "try:\n"
        "    part.to_astropy()\n"
        "except CatalogueError as error:\n"
        "    print(error)\n"
        "print(sorted({'torch', 'ray', 'astropy', 'fitsio'} & {name for name, it in sys.modules.items() if it}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(whole)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install astropy" in done.stdout
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["run", "--survey", "decals", "--mirror", "x", "--output", "x"], "run"),
        (["networks"], "run"),
        (["mock", "x"], "mock"),
    ],
)
def test_a_verb_that_needs_more_names_the_extra(arguments: list[str], extra: str) -> None:
    done = _call(*arguments)
    assert done.returncode == 2
    assert f"pip install 'galaxy-pipeline[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
