"""The bytes a row that the dry run prints, against files that are really written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.catalogue.contract import NetworkColumns
from pipeline.catalogue.parquet import table_bytes
from pipeline.catalogue.row_size import network_bytes
from pipeline.catalogue.rows import unit_table
from pipeline.data import NetworkOutput, Predictions
from pipeline.models.network import ATTENTION_COLUMNS
from tests.catalogue_rows import NETWORK, plan_rows, predictions, provenance

ROWS = 10_000
CLASSES = ("round", "in_between", "cigar", "edge_on", "spiral", "merger")
SIX = replace(NETWORK, classes=CLASSES, attention=ATTENTION_COLUMNS)


def drawn(grid: int, *, spread: bool) -> Predictions:
    """A unit of rows whose numbers vary as a trained network's do: none is nearly constant."""
    part = predictions(["ok"] * ROWS, network=SIX)
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (ROWS, 6)).astype(np.float32)
    weights = np.exp(logits)
    cells = random.gamma(0.5, 1, (ROWS, grid, grid))
    maps = np.kron(255 * cells / cells.max((1, 2), keepdims=True), np.ones((16 // grid, 16 // grid)))
    said = part.networks["net"]
    output = NetworkOutput(
        logits=logits,
        probabilities=weights / weights.sum(1, keepdims=True),
        entropy=said.entropy,
        spread=said.spread if spread else np.full(ROWS, np.nan, np.float32),
        novelty=said.novelty,
        attention=said.attention,
        maps=maps.reshape(ROWS, 256).round().astype(np.uint8),
    )
    return replace(part, fov_arcsec=random.uniform(16, 60, ROWS).astype(np.float32), networks={"net": output})


def packed(part: Predictions, network: NetworkColumns) -> dict[str, float]:
    """Bytes a row of every column of the file that a commit writes."""
    data = table_bytes(unit_table(plan_rows(ROWS), [part], provenance(network)))
    group = pq.read_metadata(pa.BufferReader(data)).row_group(0)
    columns = (group.column(index) for index in range(group.num_columns))
    return {column.path_in_schema: column.total_compressed_size / ROWS for column in columns}


@pytest.mark.parametrize(("grid", "spread"), [(8, False), (16, True)])
def test_the_printed_bytes_are_those_of_a_written_file(grid: int, spread: bool) -> None:
    sizes = packed(drawn(grid, spread=spread), SIX)
    told = network_bytes(SIX, (grid, grid), empty=() if spread else ("net_spread",))
    own = {name: size for name, size in sizes.items() if name.startswith("net_")}
    assert told.map == pytest.approx(own.pop("net_att_map"), rel=0.2)
    assert told.columns == pytest.approx(sum(own.values()), rel=0.1)
    default = sum(size for name, size in own.items() if name.startswith(("net_p_", "net_label", "net_conf")))
    assert told.default == pytest.approx(default, rel=0.2)


def test_a_column_more_is_bytes_more() -> None:
    more = replace(SIX, attention=(*SIX.attention, "head_spread"))
    assert network_bytes(more).columns - network_bytes(SIX).columns == pytest.approx(2.2)
    assert network_bytes(more).map == network_bytes(SIX).map
