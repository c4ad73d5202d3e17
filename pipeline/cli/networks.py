"""The verb that lists the networks, or what some checkpoints hold: `pipeline networks`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from pipeline.cli import screen

if TYPE_CHECKING:
    from pipeline.data import ImageContract
    from pipeline.models.checkpoint import Checkpoint
    from pipeline.models.descriptions import Description
    from pipeline.models.network import NetworkConfig

INDENT = 4
LEAST_WORK = 0.001  # GFLOPs that are told apart from none
WIDEST = 100  # characters of a line of prose
LEGEND = (
    "Input is bands x height x width. GFLOPs are operations an image, two a multiply-add, as torch counts them. A "
    "network sees as many pixels across as one position of its last feature map depends on. The review is Zhao's; its "
    "sections 3.2 ask for successors. What the weights were trained on, `pipeline networks CHECKPOINT` says."
)


@dataclass(frozen=True)
class Row:
    """One network of the list."""

    cells: tuple[str, ...]  # as HEADER
    notes: tuple[tuple[str, str], ...]  # text and its style, each from a new line


HEADER = ("network", "parameters", "GFLOPs", "sees", "input", "review", "weights")
WIDTHS = (11, 10, 7, 6, 9, 8, 9)
RIGHT = (False, True, True, True, False, False, False)


def networks(
    checkpoints: Annotated[
        list[str] | None, typer.Argument(help="Checkpoints to describe instead, paths or URLs.", show_default=False)
    ] = None,
) -> None:
    """List the networks: size, work, how far they see, input, which part of the review they answer, training."""
    with screen.answers():
        rows = _of_checkpoints(checkpoints) if checkpoints else _of_package()
        for number, row in enumerate(rows):  # each is shown as soon as it is measured
            if number == 0:
                screen.out.print(Text(_line(HEADER), style="bold"))
            line = Text(_line(row.cells))
            line.stylize("bold cyan", 0, len(row.cells[0]))
            screen.out.print(line)
            for text, style in row.notes:
                screen.out.print(Text(_wrapped(text, INDENT), style=style))
        screen.out.print(Text("\n" + _wrapped(LEGEND, 0), style="dim"))


def _of_package() -> Iterable[Row]:
    """Every network of NETWORKS, with the weights of it that come with the package, and the ANN beside them."""
    from pipeline.models import NETWORKS
    from pipeline.models.ann import INDICATORS, ANNConfig
    from pipeline.models.descriptions import DESCRIPTIONS

    shipped = _shipped()
    for name, config in NETWORKS.items():
        held = shipped.get(name, ())
        cells = _measured(name, config, "trained" if held else "untrained")
        yield Row(
            cells, (*_described(DESCRIPTIONS[name]), *((f"{address}: {_trained(one)}", "dim") for address, one in held))
        )
    description = DESCRIPTIONS["ann"]
    parameters = sum(tensor.numel() for tensor in ANNConfig().build().parameters())
    cells = ("ann", f"{parameters:,}", _work(0.0), "", f"{len(INDICATORS)} numbers", description.review, "untrained")
    yield Row(cells, _described(description))


def _of_checkpoints(addresses: list[str]) -> Iterable[Row]:
    """The network of each checkpoint as it was trained, and what its contract says."""
    from pipeline.checkpoints import read

    for address in addresses:
        held = read(address)
        weights = "untrained" if held.untrained else "trained"
        cells = _measured(held.network, held.config, weights)
        notes = (_trained(held), f"takes {_images(held.image)}", f"tells {', '.join(held.classes)}")
        yield Row(cells, (*((note, "") for note in notes), (f"sha256 {held.sha256}", "dim")))


def _shipped() -> Mapping[str, list[tuple[str, Checkpoint]]]:
    """Network -> the checkpoints of it that come with the package, each with its address."""
    from pipeline.checkpoints import SHIPPED, read, shipped_names

    held = [(address, read(address)) for address in (f"{SHIPPED}:{name}" for name in shipped_names())]
    networks = {checkpoint.network for _, checkpoint in held}
    return {network: [one for one in held if one[1].network == network] for network in networks}


def _measured(name: str, config: NetworkConfig, weights: str) -> tuple[str, ...]:
    """The cells of a network; blank where its library is missing."""
    from pipeline.errors import MissingExtra
    from pipeline.models.descriptions import DESCRIPTIONS
    from pipeline.models.figures import parameters, sees, work

    shape, review = f"{config.bands}x{config.size}x{config.size}", DESCRIPTIONS[name].review
    try:
        size = parameters(config)
        field = sees(config)
        seen = "all" if field is None else f"{field} px"
        return name, f"{size:,}", _work(work(config)), seen, shape, review, weights
    except MissingExtra:
        return name, "", "", "", shape, review, "not here"


def _trained(held: Checkpoint) -> str:
    """What the weights were fitted to, and how well they did on what was held out."""
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in held.metrics.items())
    return f"trained on {held.training}{': ' + metrics if metrics else ''}" if not held.untrained else held.training


def _images(image: ImageContract) -> str:
    """How the sky becomes the network's input."""
    fov = image.fov
    fixed = "the survey's own frames" if fov.fixed is None else f"{fov.fixed:g} arcsec of sky"
    radii = f"{fov.radius_multiple:g} radii of the source, or {fixed} where it has none"
    view = radii if fov.radius_multiple else fixed
    planes = ", ".join(image.planes)
    return f"{view}, at {image.size} px; planes {planes} under the arcsinh stretch, 0 to 1"


def _work(gflops: float) -> str:
    """Three figures, of which none stands for nothing."""
    return f"{gflops:.3g}" if gflops >= LEAST_WORK else f"<{LEAST_WORK}"


def _described(description: Description) -> tuple[tuple[str, str], ...]:
    needs = ((f"pip install 'galaxy-pipeline[{description.extra}]'", "yellow"),) if description.extra else ()
    return ((description.what, ""), *needs)


def _line(cells: Iterable[str]) -> str:
    columns = zip(cells, WIDTHS, RIGHT, strict=True)
    aligned = (f"{cell:>{width}}" if right else f"{cell:<{width}}" for cell, width, right in columns)
    return "  ".join(aligned).rstrip()


def _wrapped(text: str, indent: int) -> str:
    margin = " " * indent
    return textwrap.fill(
        text,
        min(screen.out.width, WIDEST),
        initial_indent=margin,
        subsequent_indent=margin,
        break_on_hyphens=False,
        break_long_words=False,
    )
