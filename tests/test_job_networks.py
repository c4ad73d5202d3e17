"""Jobs of several networks: checked against each other before the first unit, then all over each image in one pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from pipeline import open_catalogue
from pipeline.data import ImageContract, RowFlag
from pipeline.errors import CheckpointError
from pipeline.executors.forecast import plan_only
from pipeline.executors.runner import run
from pipeline.job import Job
from pipeline.models.checkpoint import read_checkpoint, untrained_checkpoint, write_checkpoint
from pipeline.models.configs.agcnn import AGCNNConfig
from pipeline.models.configs.dmagnet import DMAGNetConfig
from pipeline.models.novelty import Classes, Novelty, Scale, energy
from pipeline.planner.plan import open_plan
from pipeline.storage import Storage
from tests.runs import SIZE, committed_rows, mock_job

SMALL = DMAGNetConfig(size=SIZE, dims=(8, 16), depths=(1, 1), head_channels=8)
OTHER_SIZE = AGCNNConfig(size=48, widths=(4, 4, 4, 8), gates=1, gate_channels=4, pooling="mean")


def stored(path: Path, network: str, config: AGCNNConfig | DMAGNetConfig, image: ImageContract) -> Path:
    """A checkpoint of random weights for images of any contract."""
    made = untrained_checkpoint(network, 5, replace(config, bands=3))
    weights = config.build().state_dict()
    path.write_bytes(write_checkpoint(replace(made, config=config, image=image), weights))
    return path


def knowing(path: Path, checkpoint: Path, rows: pa.Table) -> Path:
    """The checkpoint with a model of novelty by energy alone, to which half of `rows`, which it gave, are novel."""
    made = read_checkpoint(checkpoint.read_bytes(), "x")
    classified = rows.filter(pc.is_valid(rows["dmagnet_logit_round"]))
    logits = np.stack([classified[f"dmagnet_logit_{name}"].to_numpy() for name in made.classes], 1)
    scores = energy(torch.tensor(logits)).quantile(torch.tensor([0.0, 0.5, 1.0]))
    rising = torch.tensor([0.0, 2.0, 4.0])
    model = Novelty(
        late=nowhere(made.config.features),
        early=nowhere(made.config.early),
        energy=Scale(scores, rising, torch.zeros(())),
        distance=Scale(torch.tensor([0.0, 1e9]), torch.zeros(2), torch.zeros(())),
        early_distance=Scale(torch.tensor([0.0, 1e9]), torch.zeros(2), torch.zeros(())),
        largest=Scale(rising.clone(), rising.clone(), torch.zeros(())),
    )
    path.write_bytes(write_checkpoint(made, made.weights, model))
    return path


def nowhere(width: int) -> Classes:
    return Classes(torch.zeros(1, width), torch.eye(width), torch.zeros(width))


def two_networks(tree: Path, first: Path, second: Path, *overrides: str) -> Job:
    return mock_job(tree, first, f"networks.agcnn.checkpoint={second}", *overrides)


def seen_once(job: Job) -> Job:
    """The job with one view a network."""
    networks = {name: section.model_copy(update={"views": 1}) for name, section in job.networks.items()}
    return job.model_copy(update={"networks": networks})


@dataclass(frozen=True)
class Both:
    output: Path
    rows: pa.Table
    job: Job


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, mock_tree: Path, checkpoint: Path, whole: Path) -> Both:
    """A run of a DMAGNet of 64 pixels, in eight views and with a model of novelty, beside an AG-CNN of 48."""
    folder = tmp_path_factory.mktemp("both")
    image = ImageContract(size=SIZE)
    first = knowing(folder / "dmagnet.safetensors", checkpoint, committed_rows(whole))
    second = stored(folder / "agcnn.safetensors", "agcnn", OTHER_SIZE, replace(image, size=48))
    job = two_networks(mock_tree, first, second, "networks.dmagnet.views=8")
    run(job, str(folder / "out"))
    return Both(folder / "out", committed_rows(folder / "out"), job)


def test_networks_of_different_sizes_run_over_the_same_images(both: Both) -> None:
    classified = pc.is_in(both.rows["status"], value_set=pa.array(["ok", "partial"]))
    for name in ("dmagnet_p_spiral", "agcnn_p_spiral", "dmagnet_att_map", "agcnn_att_map", "disagreement"):
        assert pc.is_valid(both.rows[name]).equals(classified), name
    assert pc.max(both.rows["disagreement"]).as_py() > 0


def test_each_network_has_the_columns_that_its_checkpoint_and_the_job_give(both: Both) -> None:
    classified = pc.is_in(both.rows["status"], value_set=pa.array(["ok", "partial"]))
    for name in ("spread", "novelty"):
        assert pc.is_valid(both.rows[f"dmagnet_{name}"]).equals(classified), name
        assert both.rows[f"agcnn_{name}"].null_count == both.rows.num_rows, name
    for name in ("logit_round", "entropy"):
        for network in ("dmagnet", "agcnn"):
            assert pc.is_valid(both.rows[f"{network}_{name}"]).equals(classified), name


def test_the_flag_says_which_images_are_novel(both: Both) -> None:
    flagged = both.rows["flags"].to_numpy() & int(RowFlag.OUT_OF_DISTRIBUTION) > 0
    novelty = both.rows["dmagnet_novelty"].fill_null(0).to_numpy()
    assert np.array_equal(flagged, novelty >= 2)
    assert 0.3 < flagged.sum() / (novelty > 0).sum() < 0.7


def test_attention_is_where_the_statistics_put_it(both: Both) -> None:
    classified = both.rows.filter(pc.is_valid(both.rows["agcnn_att_cx"]))
    values = {name: classified[name].fill_null(np.nan).to_numpy() for name in classified.column_names[4:]
              if pa.types.is_floating(classified[name].type)}  # fmt: skip
    for network in ("dmagnet", "agcnn"):
        east = (0.5 - values[f"{network}_att_cx"]) * values["fov_arcsec"]
        drawn = values[f"{network}_att_flat"] == 0
        np.testing.assert_allclose(values[f"{network}_att_east_arcsec"][drawn], east[drawn], atol=0.02)
        offset, radius = values[f"{network}_att_offset_arcsec"][drawn], values["radius"][drawn]
        radii = values[f"{network}_att_offset_radii"][drawn]
        known = radius > 0
        np.testing.assert_allclose(radii[known], (offset / radius)[known], rtol=1e-3)
        assert np.isnan(radii[~known]).all()


def test_the_maps_of_every_network_lie_in_a_table_beside_and_join_by_id(both: Both) -> None:
    catalogue = open_catalogue(str(both.output))
    assert catalogue.attention is not None
    schema = catalogue.attention.schema
    assert schema.names == ["_healpix_29", "object_id", "ra", "dec", "dmagnet_att_map", "agcnn_att_map"]
    assert schema.field("ra").metadata[b"unit"] == b"deg"
    assert schema.field("agcnn_att_map").metadata[b"ucd"] == b"stat.value"
    assert b"no property of the galaxy" in schema.field("agcnn_att_map").metadata[b"description"]
    published = catalogue.attention.dataset().to_table().sort_by("object_id")
    for name in ("object_id", "dmagnet_att_map", "agcnn_att_map"):
        assert published[name].to_pylist() == both.rows[name].to_pylist(), name


def test_every_column_of_a_network_says_what_it_is(both: Both) -> None:
    described = [field for field in both.rows.schema if field.name.startswith(("dmagnet_", "agcnn_", "disagreement"))]
    assert len(described) > 80
    for field in described:
        assert field.metadata[b"ucd"], field.name
        assert field.metadata[b"description"], field.name
        units = {"_arcsec": b"arcsec", "_pa": b"deg"}
        unit = next((unit for ending, unit in units.items() if field.name.endswith(ending)), None)
        expected = b"bit" if field.name == "disagreement" else unit
        assert field.metadata.get(b"unit") == expected, field.name


def test_eight_views_are_eight_times_the_work_of_the_dry_run(both: Both, tmp_path: Path) -> None:
    eight = both.job.model_copy(update={"networks": {"dmagnet": both.job.networks["dmagnet"]}})
    costs = [plan_only(job, str(tmp_path / job.digest({})))[1] for job in (seen_once(eight), eight)]
    assert costs[1].gpu_seconds == pytest.approx(8 * costs[0].gpu_seconds)
    assert costs[1].bytes_out > costs[0].bytes_out  # the spread


IMAGE = ImageContract(size=SIZE)


@pytest.mark.parametrize(
    ("image", "config", "message"),
    [
        (
            replace(IMAGE, bands=("g", "r"), planes=("r", "g"), scales=(6.0, 3.4)),
            replace(SMALL, bands=2),
            r"agcnn and dmagnet cannot share one preprocessing: bands: expected \('g', 'r', 'z'\), got \('g', 'r'\)",
        ),
        (replace(IMAGE, planes=("g", "r", "z")), SMALL, r"cannot share one preprocessing: planes: expected"),
        (
            replace(IMAGE, softening=10.0),
            SMALL,
            r"cannot share one preprocessing: softening: expected 20\.0, got 10\.0",
        ),
        (replace(IMAGE, offset=0.0), SMALL, r"cannot share one preprocessing: offset: expected 0\.03, got 0\.0"),
    ],
    ids=["channels", "order", "stretch", "zero"],
)
def test_networks_that_want_other_channels_or_values_are_refused_before_anything_is_planned(
    image: ImageContract, config: DMAGNetConfig, message: str, tmp_path: Path, mock_tree: Path, checkpoint: Path
) -> None:
    other = stored(tmp_path / "other.safetensors", "dmagnet_f", config, image)
    with pytest.raises(CheckpointError, match=message):
        run(two_networks(mock_tree, checkpoint, other), str(tmp_path / "out"))
    assert open_plan(Storage(str(tmp_path / "out"))) is None
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_another_view_of_the_same_values_is_a_warning(both: Both, tmp_path: Path) -> None:
    from pipeline.executors.prepare import prepare

    said: list[str] = []
    prepare(both.job, str(tmp_path), "run", said.append)
    assert "warning: agcnn differs from dmagnet: size: expected 64, got 48" in said


def test_an_output_made_with_one_view_is_not_continued_with_eight(both: Both) -> None:
    assert both.job.digest({}) != seen_once(both.job).digest({})
