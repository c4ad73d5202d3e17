"""The simulator agrees with arithmetic where arithmetic suffices, and keeps its head where it does not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pipeline.executors.costs import IMAGE_BYTES, Cluster, Costs, Workload
from pipeline.executors.simulate import eta, main, simulate
from pipeline.executors.sizing import DRIVER_BUSY, drivers_for

FREE = Costs(
    file_bytes=0,
    section_seconds=0,
    whole_seconds=0,
    draw_seconds=0,
    store_seconds_byte=0,
    latency_seconds=0,
    images_second=math.inf,
    commit_seconds=0,
    actor_start_seconds=0,
    driver_seconds=0,
)
WORK = Workload(sources=1_000_000, units=250, chunks=2000, openings=20_000)
SMALL = Cluster(gpus=2, load_cores=8)


def test_a_run_bound_by_gpus_takes_its_images_over_their_rate() -> None:
    result = simulate(WORK, SMALL, replace(FREE, images_second=1000.0))
    assert result.seconds == pytest.approx(1_000_000 / 2000, rel=0.02)
    assert result.binds == "GPUs"
    assert result.utilisation["GPUs"] == pytest.approx(1.0, abs=0.02)


def test_twice_the_gpus_take_half_the_time_if_gpus_bind() -> None:
    costs = replace(FREE, images_second=1000.0)
    once = simulate(WORK, SMALL, costs)
    twice = simulate(WORK, replace(SMALL, gpus=4), costs)
    assert twice.seconds == pytest.approx(once.seconds / 2, rel=0.02)


def test_a_run_bound_by_load_cores_takes_the_seconds_of_all_loads_over_the_cores() -> None:
    costs = replace(FREE, draw_seconds=0.004)
    result = simulate(WORK, SMALL, costs)
    assert result.seconds == pytest.approx(1_000_000 * 0.004 / 8, rel=0.02)
    assert result.binds == "load cores"
    more = simulate(WORK, replace(SMALL, gpus=20), costs)
    assert more.seconds == pytest.approx(result.seconds, rel=0.001)


def test_a_run_bound_by_requests_takes_their_number_over_the_limit() -> None:
    result = simulate(WORK, replace(SMALL, requests_second=50.0), FREE)
    assert result.seconds == pytest.approx(20_000 * 4 / 50, rel=0.02)
    assert result.binds == "archive requests"


def test_a_run_bound_by_the_network_takes_its_bytes_over_the_bandwidth() -> None:
    costs = replace(FREE, file_bytes=1e6, load_bytes_second=1e9)
    result = simulate(WORK, replace(SMALL, network_bytes_second=1e8), costs)
    assert result.seconds == pytest.approx(20_000 * 3 * 1e6 / 1e8, rel=0.02)
    assert result.binds == "network"


def test_a_run_bound_by_the_driver_takes_its_tasks_times_their_cost() -> None:
    result = simulate(WORK, SMALL, replace(FREE, driver_seconds=0.01))
    assert result.seconds == pytest.approx((2000 + 2000 + 250) * 0.01, rel=0.02)
    assert result.binds == "driver"


def test_twice_the_drivers_take_half_the_time_if_drivers_bind() -> None:
    costs = replace(FREE, driver_seconds=0.01, exchange_seconds=0.0, told_seconds=0.0)
    result = simulate(WORK, replace(SMALL, drivers=2), costs)
    assert result.seconds == pytest.approx((2000 + 2000 + 250) * 0.01 / 2, rel=0.02)
    assert result.binds == "driver"
    assert result.counts.committed == 250


def test_drivers_without_end_are_bound_by_the_run_that_hears_them_all() -> None:
    cluster = replace(SMALL, gpus=8, load_cores=64, drivers=8)
    result = simulate(WORK, cluster, replace(FREE, told_seconds=0.01))
    assert result.seconds == pytest.approx((2000 + 2000 + 250) * 0.01, rel=0.1)
    assert result.binds == "run"


def test_a_thousand_gpus_are_bound_by_one_driver_and_not_by_as_many_as_the_plan_gives_them() -> None:
    work, open_mirror = Workload.of_survey(10**9, chunk=512), 1e15
    alone = eta(work, Cluster.of_gpus(1000, archive=open_mirror))
    several = eta(work, Cluster.of_gpus(1000, archive=open_mirror, drivers=drivers_for(16_000, 512)))
    assert alone.binds == "driver"
    assert several.binds == "load cores"
    assert several.utilisation["driver"] < DRIVER_BUSY
    assert several.images_second > 5 * alone.images_second


def test_one_driver_is_enough_for_some_tens_of_gpus_and_more_for_smaller_chunks() -> None:
    assert drivers_for(16 * 10, 256) == 1
    assert drivers_for(16_000, 512) == pytest.approx(drivers_for(16_000, 256) / 2, abs=1)


def test_a_chunk_reads_by_section_until_whole_files_are_cheaper() -> None:
    costs = replace(FREE, section_seconds=0.005, whole_seconds=0.5)
    sparse = Workload(sources=1000, units=1, chunks=1, openings=500)
    dense = Workload(sources=1000, units=1, chunks=1, openings=2)
    assert sparse.load_of(1000, costs).seconds == pytest.approx(1000 * 4 * 0.005)
    assert dense.load_of(1000, costs).seconds == pytest.approx(2 * 4 * 0.5)


def test_slow_actors_fill_the_object_store_to_its_cap_and_no_further() -> None:
    cap = 40 * 500 * IMAGE_BYTES
    result = simulate(WORK, replace(SMALL, bytes_cap=cap, load_cores=100), replace(FREE, images_second=1000.0))
    assert cap * 0.95 <= result.peak_bytes <= cap
    assert result.binds == "GPUs"


def test_an_object_store_too_small_to_keep_the_cores_busy_is_what_binds() -> None:
    cap = 4 * 500 * IMAGE_BYTES
    result = simulate(WORK, replace(SMALL, bytes_cap=cap), replace(FREE, draw_seconds=0.004))
    assert result.binds == "object store"
    assert result.seconds == pytest.approx(1_000_000 * 0.004 / 4, rel=0.02)


def test_failures_slow_the_run_and_every_unit_is_still_committed() -> None:
    costs = replace(FREE, images_second=1000.0, actor_start_seconds=5.0)
    well = simulate(WORK, SMALL, costs)
    badly = replace(costs, load_failures=0.005, predict_failures=0.005, actor_deaths=0.005)
    ill = simulate(WORK, SMALL, badly)
    assert ill.seconds > 1.05 * well.seconds
    assert ill.counts.committed + ill.counts.quarantined == 250
    assert ill.counts.failed_attempts > 5 and ill.counts.actor_deaths > 5


def test_actors_that_die_at_every_chunk_leave_everything_quarantined() -> None:
    work = Workload(sources=1000, units=5, chunks=10, openings=10)
    result = simulate(work, SMALL, replace(FREE, actor_deaths=1.0))
    assert (result.counts.committed, result.counts.quarantined) == (0, 5)


def test_the_same_seed_gives_the_same_simulation() -> None:
    costs = Costs(load_failures=0.01, actor_deaths=0.01)
    work = Workload.of_survey(200_000)
    assert simulate(work, SMALL, costs, seed=3) == simulate(work, SMALL, costs, seed=3)
    assert simulate(work, SMALL, costs, seed=3) != simulate(work, SMALL, costs, seed=4)


def test_a_plan_without_sources_takes_no_time() -> None:
    assert simulate(Workload(0, 0, 0, 0), SMALL, FREE).seconds == 0.0


@pytest.mark.parametrize(("galaxies", "gpus"), [(4e6, 1), (4e6, 40), (2e7, 4)])
def test_the_estimate_agrees_with_the_whole_simulation(galaxies: float, gpus: int) -> None:
    work, cluster = Workload.of_survey(round(galaxies), unit=8192, chunk=1024), Cluster.of_gpus(gpus)
    whole, quick = simulate(work, cluster), eta(work, cluster)
    assert quick.seconds == pytest.approx(whole.seconds, rel=0.05)
    assert quick.binds == whole.binds
    assert quick.events <= 20_000


@pytest.mark.parametrize(
    ("costs", "seconds"),
    [
        (replace(FREE, images_second=100.0), 1_000_000 / (40 * 100)),
        (replace(FREE, driver_seconds=0.01), (2000 + 2000 + 250) * 0.01),
        (replace(FREE, draw_seconds=0.1), 4 * 500 * 0.1),  # 2,000 chunks on 640 cores: 4 rounds
    ],
)
def test_the_estimate_on_a_part_of_the_cluster_is_that_of_the_whole(costs: Costs, seconds: float) -> None:
    result = eta(WORK, Cluster(gpus=40, load_cores=640), costs)
    assert result.seconds == pytest.approx(seconds, rel=0.05)


def test_the_estimate_says_what_it_is_extrapolated_from() -> None:
    small = eta(Workload.of_survey(10_000), SMALL)
    assert small.extrapolated == "" and small == simulate(Workload.of_survey(10_000), SMALL)
    large = eta(Workload.of_survey(10**9), Cluster.of_gpus(1000))
    assert large.extrapolated.endswith("of 1,000,000,000 sources on 0.016 of the cluster")


def test_the_estimate_of_a_billion_galaxies_handles_no_more_events_than_a_small_one() -> None:
    assert eta(Workload.of_survey(10**9), Cluster.of_gpus(1000)).events < 20_000


def test_the_table_has_a_row_for_each_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--galaxies", "1e5", "--gpus", "1", "2", "--requests", "5", "--quick"])
    out = capsys.readouterr().out
    assert out.count("100,000") == 2
    assert out.count("archive requests") == 3  # the heading, and what binds both
