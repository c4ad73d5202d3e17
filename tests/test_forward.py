"""How the way to run networks is chosen: on rates that are given, without a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from pipeline.forward import Forward, best_batch, fastest, images_second


def forward_of(value: int) -> Forward:
    def forward(batch: Tensor) -> Sequence[Tensor]:
        return [torch.full((len(batch),), value)]

    return forward


def value_of(forward: Forward) -> int:
    return int(forward(torch.zeros(1))[0])


def broken() -> Forward:
    raise RuntimeError("operation not permitted when stream is capturing\nand more")


def test_the_fastest_way_is_taken_and_all_that_was_tried_is_told() -> None:
    ways = {"slow": lambda: forward_of(10), "broken": broken, "fast": lambda: forward_of(30)}
    chosen, tried = fastest(ways, lambda forward: float(value_of(forward)))
    assert value_of(chosen) == 30
    assert [str(each) for each in tried] == [
        "fast 30 images/s",
        "slow 10 images/s",
        "broken fails (operation not permitted when stream is capturing)",
    ]


def test_a_way_that_fails_when_it_is_timed_is_passed_over() -> None:
    def rate(forward: Forward) -> float:
        if value_of(forward) == 2:
            raise torch.OutOfMemoryError("no room for the graph")
        return 1.0

    chosen, _ = fastest({"plain": lambda: forward_of(1), "graph": lambda: forward_of(2)}, rate)
    assert value_of(chosen) == 1


def test_where_every_way_fails_the_reason_is_told() -> None:
    with pytest.raises(RuntimeError, match="not permitted"):
        fastest({"broken": broken}, lambda forward: 1.0)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({64: 100, 128: 190, 256: 195, 512: 400}, 128),  # 256 gives under 3 % more
        ({64: 100, 128: 200, 256: 400, 512: 800}, 512),  # no larger one is allowed
        ({64: 100, 128: 200}, 128),  # memory holds no 256
    ],
)
def test_the_batch_grows_while_it_pays_and_fits(rates: dict[int, float], expected: int) -> None:
    def rate(batch: int) -> float:
        if batch not in rates:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return rates[batch]

    assert best_batch(rate, 64, 512) == expected


def test_a_first_batch_that_does_not_fit_is_an_error() -> None:
    def rate(batch: int) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        best_batch(rate, 64, 512)


def test_images_a_second_count_the_whole_batch() -> None:
    calls: list[int] = []

    def forward(batch: Tensor) -> Sequence[Tensor]:
        calls.append(len(batch))
        return []

    assert images_second(forward, torch.zeros(7)) > 0
    assert set(calls) == {7} and len(calls) > 1  # one to warm up
