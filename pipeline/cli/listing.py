"""The verbs that say what there is, and the mock sky: mock, jobs, surveys, schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import screen


def mock(
    path: Annotated[Path, typer.Argument(help="New folder for the tree.")],
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 1,
) -> None:
    """Write a miniature DECaLS tree of drawn galaxies, with the truth beside it."""
    with screen.answers():
        from pipeline.mock import write_mock

        summary = write_mock(path, seed)
        galaxies = ", ".join(f"{count} {name}" for name, count in summary.galaxies.items())
        screen.facts(
            f"mock sky in {path}",
            {
                "bricks": ", ".join(summary.bricks),
                "galaxies": galaxies,
                "stars": summary.stars,
                "files": f"{summary.files}, {screen.size(summary.bytes)}",
            },
        )


def jobs() -> None:
    """List the jobs that come with the package."""
    with screen.answers():
        from pipeline.job import job_names, read_tree

        trees = [read_tree(name) for name in job_names()]
        rows = [(tree["name"], tree["survey"]["kind"], ", ".join(tree["networks"])) for tree in trees]
        screen.grid(("job", "survey", "networks"), rows)


def surveys() -> None:
    """List the kinds of survey and their settings."""
    with screen.answers():
        from pipeline.job import survey_kinds

        rows = [
            (
                config.model_fields["kind"].default,
                (config.__doc__ or "").splitlines()[0],
                ", ".join(config.model_fields),
            )
            for config in survey_kinds()
        ]
        screen.grid(("kind", "what it reads", "settings of `survey:`"), rows)


def schema(
    name: Annotated[str, typer.Argument(help="job, catalogue, row, columns, recommended or sources")] = "job",
) -> None:
    """Print a data contract: the JSON Schema of a job file (job) or of a catalogue row (row), the table of the columns
    (columns), the contract that they come from (catalogue), the cuts of the recommended classes, or a source table's
    columns."""
    with screen.answers():
        from importlib.resources import files

        from pipeline.catalogue.columns import columns_markdown, row_schema
        from pipeline.errors import JobError
        from pipeline.job import job_schema

        made = {"job": job_schema, "row": row_schema, "columns": columns_markdown}
        if name in made:
            screen.out.out(made[name](), end="")
        elif name in ("catalogue", "recommended", "sources"):
            screen.out.out((files("schemas") / f"{name}.yaml").read_text(), end="")
        else:
            raise JobError(f"no schema {name!r}: {', '.join(made)}, catalogue, recommended or sources")
