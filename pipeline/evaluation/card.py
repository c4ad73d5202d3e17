"""A model card in Markdown from an evaluation's JSON: no figure in it that was not measured.

The sections are those of Mitchell et al. 2019, arXiv:1810.03993, as far as they apply to galaxies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.evaluation.credits import DECALS, SOURCES, Source
from pipeline.evaluation.plots import word
from pipeline.evaluation.targets import targets

Facts = Mapping[str, Any]


def card(said: Facts, attention: Sequence[Facts] = (), notes: Sequence[str] = ()) -> str:
    """The card of an evaluation's JSON; `attention` are the rows of the table of attention, where it was measured.

    `notes` are sentences that stand below the targets: the reasons for what falls short.
    """
    folders = dict.fromkeys(path.split("/")[0].removesuffix(".parquet") for path in said["folders"])
    sources = [SOURCES[name] for name in folders if name in SOURCES]
    parts = [*_head(said), *_use(said, sources), *_data(said, sources), *_targets(said, notes), *_scores(said)]
    parts += [
        *_classes(said),
        *_calibration(said),
        *_novelty(said),
        *_attention(said, attention),
        *_limits(said, sources),
    ]
    parts += _credits(said, sources)
    return "\n".join(parts) + "\n"


def _head(said: Facts) -> Iterator[str]:
    facts, made = said["checkpoint"], said["made"]
    yield f"# {said['name']}"
    yield ""
    yield (
        f"`{facts['network']}`, {facts['parameters']:,} parameters, images of {facts['size']} pixels a side, the "
        f"classes {', '.join(word(name) for name in facts['classes'])}."
    )
    yield ""
    yield (
        f"Figures of {made['date']}, measured by `pipeline evaluate` on {made['machine']} ({made['device']}, torch "
        f"{made['torch']}). Brackets hold 95 % intervals."
    )
    yield ""
    yield from _stored(said)


def _stored(said: Facts) -> Iterator[str]:
    kept = said.get("stored")
    sha256 = f"SHA-256 `{said['checkpoint']['sha256']}`."
    if kept is None:
        yield sha256
        return
    flips = f"of {kept['images']:,} test images {kept['flips'] or 'none'} would get another class"
    if kept["half"] is None:
        yield f"The file holds float32: in float16, {flips}. {sha256}"
    elif not kept["half"]:
        yield f"The file holds float16: {flips} than in float32. {sha256}"
    else:
        yield (
            f"The file holds tensors of {kept['half']:,} values or more in float16, and none of its answers on "
            f"{kept['images']:,} test images changes by that; with all tensors in float16, {flips}. {sha256}"
        )


def _use(said: Facts, sources: Sequence[Source]) -> Iterator[str]:
    yield from ("", "## Use", "")
    yield (
        "For morphology probabilities of many galaxies at a time, in a catalogue that says how sure they are. Not for "
        "single galaxies without a look at the image, and not where the data below differ from what is served."
    )
    if any("SIMULATED" in source.what for source in sources):
        yield from ("", "**Trained on simulated images only.**")


def _data(said: Facts, sources: Sequence[Source]) -> Iterator[str]:
    yield from ("", "## Data", "")
    yield from (f"{source.what}." for source in sources)
    yield from ("", f"{said['checkpoint']['training']}.", "")
    classes = said["checkpoint"]["classes"]
    yield from _table(
        ("side", "images of", *map(word, classes)),
        [
            (side, name, *(counts[one] for one in classes))
            for side, sets in said["images"].items()
            for name, counts in sets.items()
        ],
    )


def _targets(said: Facts, notes: Sequence[str]) -> Iterator[str]:
    found = targets(said)
    if not found and not notes:
        return
    yield from ("", "## Targets", "")
    yield from _table(
        ("target", "wanted", "found", ""),
        [
            (
                one.what,
                f"{'at least' if one.least else 'at most'} {one.wanted:g}",
                _number(one.found),
                "met" if one.met else "short",
            )
            for one in found
        ],
    )
    if notes:
        yield ""
        yield from (f"* {note}" for note in notes)


def _scores(said: Facts) -> Iterator[str]:
    yield from ("", "## Figures", "")
    yield f"The headline is `{said['headline']}`. Precision, recall and F1 are means over the classes."
    yield ""
    rows = []
    for one in said["sets"]:
        parts = [one["headline"], one["own"]]
        for part in parts if parts[0]["classes"] != parts[1]["classes"] else parts[:1]:
            measures = (_figure(part["measures"][name]) for name in ("precision", "recall", "f1"))
            rows.append((one["name"], len(part["classes"]), part["images"], _figure(part["accuracy"]), *measures))
    yield from _table(("set", "classes", "images", "accuracy", "precision", "recall", "F1"), rows)
    for one in said["sets"]:
        if one["roundness"]:
            found = one["roundness"]
            yield ""
            yield (
                f"Roundness on `{one['name']}`: {_figure(found['right'])} of {found['images']} right; a wrong answer "
                f"misses its class's range of axis ratio by {_figure(found['error_of_wrong'])} in the mean."
            )


def _classes(said: Facts) -> Iterator[str]:
    yield from ("", f"## Classes, on `{said['headline']}`", "")
    experimental = said["checkpoint"]["experimental"]
    yield from _table(
        ("class", "images", "precision", "recall", "F1"),
        [
            (
                word(one["name"]) + (" (experimental)" if one["name"] in experimental else ""),
                one["images"],
                _figure(one["precision"]),
                _figure(one["recall"]),
                _number(one["f1"]),
            )
            for one in said["sets"][0]["own"]["by_class"]
        ],
    )


def _calibration(said: Facts) -> Iterator[str]:
    facts = said["checkpoint"]
    yield from ("", "## Calibration", "")
    yield f"Temperature {_number(facts['temperature'])}, fitted on {facts['calibrated_on'] or 'nothing'}."
    if facts["prior"]:
        shares = ", ".join(
            f"{word(name)} {_number(share)}"
            for name, share in zip(facts["classes"], facts["prior"]["target"], strict=True)
        )
        yield f"Probabilities take the classes to have the shares: {shares}. Elsewhere the shares are others."
        if facts["prior"]["target"] == facts["prior"]["training"]:
            yield (
                "These are the shares that the training drew: macro F1 on the images held out is higher so than with "
                "the shares of the sample, which leave rare classes few answers or none."
            )
    yield ""
    yield from _table(
        ("set", "ECE before", "ECE after", "by chance", "Brier", "log loss (nats)"),
        [
            (
                one["name"],
                _figure(one["before"]["ece"]),
                *(_figure(one["after"][name]) for name in ("ece", "ece_by_chance", "brier", "nll")),
            )
            for one in said["sets"]
        ],
    )
    yield from ("", "ECE by chance is that of a network whose answers are right just as often as it is confident.")


def _novelty(said: Facts) -> Iterator[str]:
    if not said["separations"]:
        return
    yield from ("", "## What is no galaxy", "", "Area under the ROC curve of `novelty`:", "")
    yield from _table(
        ("kind", "images", "against", "images", "area"),
        [
            (one["kind"], one["images"][0], one["galaxies"], one["images"][1], _figure(one["novelty"]))
            for one in said["separations"]
        ],
    )


def _attention(said: Facts, rows: Sequence[Facts]) -> Iterator[str]:
    mine = [row for row in rows if row["name"] == said["name"] or row["rotation"] is None]
    if not any(row["name"] == said["name"] for row in mine):
        return
    yield from (
        "",
        "## Attention",
        "",
        "On drawn galaxies out of the centre; the control has its weights drawn anew.",
        "",
    )
    columns = ("hit", "gain", "margin", "rotation", "control_hit", "control_gain", "control_margin")
    yield from _table(
        (
            *("", "pointing game", "gain over uniform", "insertion less deletion", "rotation"),
            *("control: pointing game", "control: gain", "control: margin"),
        ),
        [(row["name"], *(_figure(row[name]) for name in columns)) for row in mine],
    )


def _limits(said: Facts, sources: Sequence[Source]) -> Iterator[str]:
    yield from ("", "## Limits", "")
    experimental = [word(name) for name in said["checkpoint"]["experimental"]]
    if experimental:
        yield f"* Experimental, for want of examples: {', '.join(experimental)}."
    yield from (f"* {limit}" for source in sources for limit in source.limits)
    for one in said["leaks"]:
        first, second = one["collections"]
        yield (
            f"* A linear probe tells {first} from {second} by this network's features of {word(one['name'])} galaxies "
            f"with an area under the ROC curve of {_figure(one['auroc'])}; chance is one half."
        )


def _credits(said: Facts, sources: Sequence[Source]) -> Iterator[str]:
    yield from ("", "## Licences and citations of the data", "")
    yield from (f"* {text}" for source in sources for text in (source.licence, source.cite))
    if any(one["name"] == "gz_decals" for one in said["sets"]):
        yield f"* {DECALS}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    yield from ("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)


def _figure(estimate: Facts | None) -> str:
    if estimate is None or estimate["value"] is None:
        return "-"
    return f"{_number(estimate['value'])} [{_number(estimate['low'])}, {_number(estimate['high'])}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
