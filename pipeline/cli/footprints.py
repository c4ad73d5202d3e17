"""The verb that says where tiles of your own are: footprint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import screen


def footprint(
    root: Annotated[str, typer.Argument(help="Folder or fsspec URL, such as s3://bucket/tiles, of FITS images.")],
    output: Annotated[Path | None, typer.Option(help="Parquet file; else ROOT/footprint.parquet of a folder.")] = None,
    pattern: Annotated[
        str | None, typer.Option(metavar="REGEX", help="For paths: (?P<tile>[^/]+)_(?P<band>[grz]), for example.")
    ] = None,
) -> None:
    """Write the footprint table of FITS tiles, which the survey `tiles` needs, from their headers."""
    with screen.answers():
        import pyarrow.parquet as pq

        from pipeline.archives.access import Access
        from pipeline.archives.policy import ArchivesSection, host_of
        from pipeline.errors import JobError
        from pipeline.sources.footprints import footprint_table

        remote = "://" in root
        if output is None and remote:
            raise JobError("say where the table goes: --output FILE")
        with Access(ArchivesSection(), [host_of(root)] if remote else []) as access:
            table = footprint_table(root, pattern, access)
        target = output or Path(root) / "footprint.parquet"
        pq.write_table(table, target)
        bands = ", ".join(sorted(set(table["band"].to_pylist()) - {""})) or "cubes"
        tiles = len(set(table["tile"].to_pylist()))
        screen.facts(f"footprint {target}", {"files": table.num_rows, "tiles": tiles, "bands": bands})
