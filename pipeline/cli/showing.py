"""The verbs that show: report, look."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli import screen
from pipeline.cli.asking import typed_identifiers

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.report.report import Pictures
    from pipeline.report.traced import Asked

Catalogue = Annotated[str, typer.Argument(help="Output of a run.")]
Others = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="GROUP:NAME=CHECKPOINT",
        help="A network to compare the maps with; without it AG-CNN in the settings that ship.",
    ),
]
Mirror = Annotated[str | None, typer.Option(help="Root of the survey's tree, where it moved.")]


def report(
    catalogue: Catalogue,
    to: Annotated[Path | None, typer.Option(help="The page; CATALOGUE/report.html where nothing is said.")] = None,
    truth: Annotated[
        str | None, typer.Option(metavar="TABLE", help="True classes: Parquet with object_id and class.")
    ] = None,
    with_: Others = None,
    compared: Annotated[int, typer.Option(min=0, help="Galaxies that the further networks look at.")] = 100,
    mirror: Mirror = None,
) -> None:
    """Write one HTML page: what happened, what the networks said, where they looked. It needs no network."""
    with screen.answers():
        from pipeline.catalogue.commits import each_latest
        from pipeline.report.report import Material, report_page
        from pipeline.storage import Storage

        ask, look = _opened(catalogue, with_, compared, mirror)
        committed = tuple(each_latest(Storage(catalogue)))
        known = None if truth is None else truth_of(truth, ask.catalogue.schema.field("object_id").type)
        page = report_page(ask, Material(look, committed, known))
        screen.facts("report", {"page": _written(page, to, catalogue, "report.html"), "size": screen.size(len(page))})
        if known is not None:
            screen.facts("labels beside the truth", _beside_truth(ask, known))


def look(
    catalogue: Catalogue,
    id_: Annotated[list[str], typer.Option("--id", help="Identifier of a galaxy; several may be given.")],
    to: Annotated[Path | None, typer.Option(help="The page; CATALOGUE/look.html where nothing is said.")] = None,
    with_: Others = None,
    mirror: Mirror = None,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Show it in the web browser.")] = True,
) -> None:
    """Compare the attention maps of one galaxy: every network, gate and setting side by side."""
    with screen.answers():
        from pipeline.report.report import galaxy_page

        ask, looker = _opened(catalogue, with_, len(id_), mirror)
        page = galaxy_page(ask, looker, typed_identifiers(ask.catalogue, id_))
        path = _written(page, to, catalogue, "look.html")
        screen.facts("galaxy", {"page": path})
        if open_ and "://" not in path:
            webbrowser.open(Path(path).absolute().as_uri())


def _opened(url: str, others: list[str] | None, compared: int, mirror: str | None) -> tuple[Asked, Pictures]:
    from pipeline import __version__
    from pipeline.catalogue.query import open_catalogue
    from pipeline.executors.looking import looker, unseen
    from pipeline.executors.state import describe_run
    from pipeline.job import job_from, override
    from pipeline.report.traced import Asked
    from pipeline.storage import Storage

    opened = open_catalogue(url)
    ask = Asked(opened, url, __version__)
    if not Storage(url).exists("run.json"):
        return ask, unseen
    tree: Any = describe_run(Storage(url))["job"]
    job = job_from(override(tree, (), {} if mirror is None else {"mirror": mirror}), url)
    return ask, looker(opened, url, job, others, compared)


def truth_of(path: str, identifier: pa.DataType) -> pa.Table:
    """Columns object_id and class of a Parquet table; `targetid` stands in for object_id, as in the mock's truth.

    Raises JobError where it cannot be read, has not these columns, or has an object_id twice or of another type than
    the catalogue.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from pipeline.errors import JobError

    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise JobError(f"--truth {path}: there is no such file") from error
    except (pa.ArrowException, OSError) as error:
        raise JobError(f"--truth {path} cannot be read as Parquet: {error}") from error
    key = next((name for name in ("object_id", "targetid") if name in table.column_names), None)
    if key is None or "class" not in table.column_names:
        raise JobError(f"--truth {path}: expected columns object_id and class, got {', '.join(table.column_names)}")
    try:
        found = table.select([key, "class"]).rename_columns(["object_id", "class"])
        found = found.cast(pa.schema([("object_id", identifier), ("class", pa.string())]))
    except pa.ArrowException as error:
        raise JobError(f"--truth {path}: expected {identifier} identifiers and words as classes: {error}") from error
    if pc.count_distinct(found["object_id"], mode="all").as_py() != found.num_rows:
        raise JobError(f"--truth {path}: an object_id is there more than once")
    return found


def _beside_truth(ask: Asked, truth: pa.Table) -> dict[str, str]:
    """Of each network how many labels are right, and how many the commonest class alone would have right."""
    from pipeline.report.numbers import beside_truth

    said = {}
    for network in ask.networks:
        _, right, _, commonest = beside_truth(ask, network, truth)
        if len(right):
            share = f"{right.sum():,} of {len(right):,} right ({right.mean():.1%})"
            said[network.prefix] = f"{share}; the commonest class alone: {commonest:.1%}"
    return said


def _written(page: str, to: Path | None, catalogue: str, name: str) -> str:
    from pipeline.storage import Storage

    if to is not None:
        to.write_text(page, encoding="utf-8")  # as the page says of itself
        return str(to)
    storage = Storage(catalogue)
    storage.replace(name, page.encode())
    return f"{storage.shown.rstrip('/')}/{name}"
