"""Tables of evaluations on the screen: of one checkpoint, and of several beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.cli import screen

if TYPE_CHECKING:
    from pipeline.evaluation.comparison import Compared


def comparison(name: str, rows: Sequence[Compared]) -> None:
    """Several checkpoints on the set `name`, the first's difference to each of the others beside it."""
    less = f"{rows[0].name} less this one"
    screen.grid(
        (name, "images", "accuracy", "macro F1", less, "own classes: accuracy", "macro F1", less, "ECE", "images/s"),
        [
            (
                row.name,
                row.images,
                figure(row.headline["accuracy"]),
                figure(row.headline["f1"]),
                "" if row.headline_less is None else figure(row.headline_less["f1"], sign=True),
                figure(row.own["accuracy"]),
                figure(row.own["f1"]),
                "" if row.own_less is None else figure(row.own_less["f1"], sign=True),
                figure(row.ece),
                None if row.images_per_second != row.images_per_second else round(row.images_per_second, 1),
            )
            for row in rows
        ],
    )


def figure(estimate: Any, *, sign: bool = False) -> str:
    """A figure with its interval; a dictionary of JSON or an Estimate."""
    if estimate is None:
        return ""
    value, low, high = (
        estimate[end] if isinstance(estimate, Mapping) else getattr(estimate, end) for end in ("value", "low", "high")
    )
    if value is None or value != value:
        return "-"
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]" if sign else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def evaluation(said: Mapping[str, Any]) -> None:
    """The tables of one checkpoint."""
    facts = said["checkpoint"]
    screen.facts(
        said["name"],
        {
            "network": f"{facts['network']}, {facts['parameters']:,} parameters, {facts['size']} px",
            "temperature": f"{facts['temperature']:.3f}, fitted on {facts['calibrated_on'] or 'nothing'}",
        },
    )
    screen.grid(
        ("set", "classes", "images", "accuracy", "macro precision", "macro recall", "macro F1"),
        [
            (
                one["name"],
                len(part["classes"]),
                part["images"],
                figure(part["accuracy"]),
                *(figure(part["measures"][name]) for name in ("precision", "recall", "f1")),
            )
            for one in said["sets"]
            for part in _parts(one)
        ],
    )
    screen.out.print()
    screen.grid(
        ("set", "ECE before", "ECE after", "ECE by chance", "Brier", "log loss", "images/s"),
        [
            (
                one["name"],
                figure(one["before"]["ece"]),
                *(figure(one["after"][name]) for name in ("ece", "ece_by_chance", "brier", "nll")),
                round(one["images_per_second"], 1),
            )
            for one in said["sets"]
        ],
    )
    _show_classes(said)
    _show_recommended(said)
    _show_more(said)


def _parts(one: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The headline's scores and the network's own, once where they are the same."""
    parts = [one["headline"], one["own"]]
    return parts if parts[0]["classes"] != parts[1]["classes"] else parts[:1]


def _show_recommended(said: Mapping[str, Any]) -> None:
    """What a catalogue recommends of the headline's images."""
    screen.out.print()
    columns = (f"recommended, {said['headline']}", "least probability", "recommended", "purity", "completeness")
    rows = [
        (one["name"], one["least"], one["recommended"], figure(one["purity"]), figure(one["completeness"]))
        for one in said["recommended"][said["headline"]]
    ]
    screen.grid(columns, rows)


def _show_classes(said: Mapping[str, Any]) -> None:
    """Recall by class on every set: the bias of seeing and depth shows in the drawn ones."""
    sets = said["sets"]
    names = [one["name"] for one in sets[0]["own"]["by_class"]]
    screen.out.print()
    rows = [
        (
            name,
            *(
                f"{figure(one['own']['by_class'][k]['recall'])} of {one['own']['by_class'][k]['images']}"
                for one in sets
            ),
        )
        for k, name in enumerate(names)
    ]
    screen.grid(("recall", *(one["name"] for one in sets)), rows)


def _show_more(said: Mapping[str, Any]) -> None:
    """Roundness, the frame, the leak of the collection, what is no galaxy."""
    screen.out.print()
    for one in said["sets"]:
        if one["roundness"]:
            found = one["roundness"]
            error, right = figure(found["error_of_wrong"]), figure(found["right"])
            screen.note(
                f"roundness, {one['name']}: right {right}; wrong ones miss their range of axis ratio by {error}"
            )
    screen.grid(
        ("bright radius and half-light radius over the frame, medians", "images", "bright", "half-light"),
        [
            (row["set"], row["images"], f"{row['bright_radius']:.3f}", _figure_or_dash(row["half_light"]))
            for row in said["fields"]
            if row["name"] == "all"
        ],
    )
    for row in said["leaks"]:
        first, second = row["collections"]
        screen.note(f"collection from features, {row['name']}, {first} or {second}: area {figure(row['auroc'])}")
    if said["separations"]:
        screen.out.print()
        screen.grid(
            ("no galaxy", "images", "against", "images", "area, novelty", "area, doubt"),
            [
                (
                    row["kind"],
                    row["images"][0],
                    row["galaxies"],
                    row["images"][1],
                    figure(row["novelty"]),
                    figure(row["doubt"]),
                )
                for row in said["separations"]
            ],
        )


def _figure_or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
