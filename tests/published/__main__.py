"""Write `contract-N.tar.gz` for the version N of schemas/catalogue.yaml: a plan, two commits and their snapshot."""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

from pipeline.catalogue.contract import catalogue_document
from pipeline.catalogue.hats import finalise
from pipeline.storage import Storage
from tests.catalogue_rows import commit_sky
from tests.plans import planned, sky

ROWS = 20  # of each of two units


def main() -> int:
    target = Path(__file__).parent / f"contract-{catalogue_document().version}.tar.gz"
    if target.exists():
        sys.stdout.write(f"{target.name} is there already: readers are held to it as it is\n")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        planned(sky(20), folder)
        commit_sky(storage, units=2, rows=ROWS)
        finalise(storage, name="kept")
        with tarfile.open(target, "w:gz") as archive:
            archive.add(folder, arcname=".")
    sys.stdout.write(f"{target.name}: {target.stat().st_size} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
