"""The predictor: whatever the batches, an image gets the same answer."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.data import ImageContract, NetworkOutput
from pipeline.errors import JobError
from pipeline.inference import Predictor
from pipeline.models import NETWORKS
from pipeline.models.checkpoint import Checkpoint, untrained_checkpoint
from pipeline.models.configs.dmagnet import DMAGNetConfig
from pipeline.models.network import NetworkResult, attention_columns
from tests.network_probes import skip_where_torchvision_lacks

TINY = DMAGNetConfig(size=32, dims=(8, 16), depths=(1, 1), head_channels=8)
SEED_0 = untrained_checkpoint("dmagnet_f", 0, TINY)


@dataclass(frozen=True)
class ProbeConfig:
    bands: int = 3
    classes: int = 3
    size: int = 8
    scalars: tuple[str, ...] = ()
    features: int = 3
    early: int = 3

    def build(self) -> nn.Module:
        return Probe()


class Probe(nn.Module):
    """Logits are the channels' means, infinite above one half; the attention is the brightness."""

    def forward(self, images: Tensor) -> NetworkResult:
        means = images.mean((2, 3))
        return NetworkResult(torch.where(means > 0.5, torch.inf, means), images.mean(1), {}, means, means)


PROBE = Checkpoint(
    network="probe",
    config=ProbeConfig(),
    classes=("a", "b", "c"),
    image=ImageContract(size=8),
    training="none",
    metrics={},
    temperature=1.0,
    untrained=True,
    sha256="",
    weights={},
)


def galaxies(count: int, size: int = 32) -> NDArray[np.uint8]:
    """Blobs of different places and colours on noise: (count, 3, size, size)."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:size, :size] / size
    place = rng.uniform(0.2, 0.8, (count, 2, 1, 1))
    blob = np.exp(-20 * ((x - place[:, 0]) ** 2 + (y - place[:, 1]) ** 2))[:, None]
    image = 200 * blob * rng.uniform(0.2, 1, (count, 3, 1, 1)) + rng.uniform(0, 50, (count, 3, size, size))
    return image.astype(np.uint8)


def predicted(images: NDArray[np.uint8], checkpoint: Checkpoint = SEED_0, batch: int = 4) -> NetworkOutput:
    return Predictor({"net": checkpoint}, device="cpu", batch=batch)(images)["net"]


def assert_close(found: NetworkOutput, wanted: NetworkOutput, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=tolerance)
    assert list(found.attention) == list(wanted.attention)
    for name, values in wanted.attention.items():
        np.testing.assert_allclose(found.attention[name], values, rtol=1e-3, atol=10 * tolerance, err_msg=name)
    assert np.abs(found.maps.astype(int) - wanted.maps).max(initial=0) <= 1


def rows(output: NetworkOutput, chosen: list[int]) -> NetworkOutput:
    arrays = ("logits", "probabilities", "entropy", "spread", "novelty", "maps")
    attention = {name: values[chosen] for name, values in output.attention.items()}
    return NetworkOutput(**{name: getattr(output, name)[chosen] for name in arrays}, attention=attention)


@pytest.mark.parametrize("network", list(NETWORKS))
def test_a_full_network_answers_for_an_image_whatever_its_company(network: str) -> None:
    skip_where_torchvision_lacks(network)
    images = galaxies(3, NETWORKS[network].size)
    predict = Predictor({"net": untrained_checkpoint(network, 0)}, device="cpu", batch=2)
    together = predict(images)["net"]
    assert np.ptp(together.probabilities, axis=0).max() > 1e-4  # the images do differ
    assert_close(predict(images[1:2])["net"], rows(together, [1]))
    assert_close(predict(images[[2, 1, 0]])["net"], rows(together, [2, 1, 0]))


@pytest.mark.parametrize("batch", [1, 3, 7, 16])
def test_the_size_of_the_batches_changes_nothing(batch: int) -> None:
    images = galaxies(7)
    assert_close(predicted(images, batch=batch), predicted(images, batch=4))


def test_what_pads_the_last_batch_does_not_show() -> None:
    predict = Predictor({"net": SEED_0}, device="cpu", batch=8)
    images = galaxies(8)
    whole = predict(images)["net"]
    tail = predict(images[:3])["net"]  # the buffer still holds the other five
    assert np.array_equal(tail.probabilities, whole.probabilities[:3])
    assert np.array_equal(tail.maps, whole.maps[:3])


def test_an_earlier_result_is_not_overwritten_by_a_later_one() -> None:
    predict = Predictor({"net": SEED_0}, device="cpu", batch=4)
    first = predict(galaxies(4))["net"]
    kept = first.probabilities.copy(), first.attention["cx"].copy()
    predict(255 - galaxies(4))
    assert np.array_equal(first.probabilities, kept[0])
    assert np.array_equal(first.attention["cx"], kept[1])


def test_the_images_come_out_as_the_network_itself_sees_them() -> None:
    images = galaxies(5)
    with torch.inference_mode():
        result = SEED_0.build()(torch.from_numpy(images).float() / 255)
    found = predicted(images)
    np.testing.assert_allclose(found.probabilities, result.logits.softmax(1).numpy(), atol=1e-6)
    np.testing.assert_allclose(found.attention["raw_max"], result.attention.amax((1, 2)).numpy(), atol=1e-6)
    np.testing.assert_allclose(found.attention["head_spread"], result.scalars["head_spread"].numpy(), atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 4, 9])
def test_every_image_gets_one_row_of_each_kind(count: int) -> None:
    found = predicted(galaxies(count))
    assert (found.probabilities.shape, found.probabilities.dtype.name) == ((count, 6), "float32")
    assert (found.maps.shape, found.maps.dtype.name) == ((count, 256), "uint8")
    assert tuple(found.attention) == attention_columns(TINY)
    assert {(values.shape, values.dtype.name) for values in found.attention.values()} == {((count,), "float32")}
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-6)


def test_read_only_images_of_shared_memory_give_no_warning() -> None:
    images = galaxies(3)
    images.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_close(predicted(images), predicted(galaxies(3)))


def test_two_predictors_agree_to_the_bit() -> None:
    one, other = predicted(galaxies(5)), predicted(galaxies(5))
    assert np.array_equal(one.probabilities, other.probabilities)
    assert np.array_equal(one.maps, other.maps)


def test_a_temperature_flattens_the_probabilities_and_keeps_their_order() -> None:
    images = galaxies(3)
    sharp, flat = predicted(images), predicted(images, replace(SEED_0, temperature=10.0))
    assert (flat.probabilities.max(1) < sharp.probabilities.max(1)).all()
    assert np.array_equal(flat.probabilities.argsort(1), sharp.probabilities.argsort(1))
    ratio = np.log(sharp.probabilities[:, 0] / sharp.probabilities[:, 1])
    np.testing.assert_allclose(np.log(flat.probabilities[:, 0] / flat.probabilities[:, 1]), ratio / 10, rtol=1e-3)


def test_networks_of_different_sizes_share_a_pass_and_keep_their_own_answers() -> None:
    other = untrained_checkpoint("dmagnet_f", 1, replace(TINY, size=64))
    images = galaxies(5)
    both = Predictor({"one": SEED_0, "two": other}, device="cpu", batch=4)(images)
    assert list(both) == ["one", "two"]
    assert_close(both["one"], predicted(images))
    assert_close(both["two"], predicted(images, other))


def test_larger_images_are_resized_without_aliasing() -> None:
    stripes = np.zeros((1, 3, 32, 32), np.uint8)
    stripes[..., 2::4] = 204  # one column in four: 0.2 on average; aliased it would be 0.4
    found = predicted(stripes, PROBE).attention
    assert found["raw_min"][0] == pytest.approx(0.2, abs=0.04)
    assert found["raw_max"][0] == pytest.approx(0.2, abs=0.04)


def test_a_bright_corner_stays_where_it_was_and_white_is_one() -> None:
    image = np.zeros((1, 3, 8, 8), np.uint8)
    image[..., 1, 6] = 255
    found = predicted(image, PROBE)
    names = ("peak_x", "peak_y", "raw_max")
    assert [found.attention[name][0] for name in names] == [6.5 / 8, 1.5 / 8, 1]
    assert found.maps.reshape(16, 16)[2:4, 12:14].tolist() == [[255, 255], [255, 255]]


def test_a_predictor_takes_images_of_another_size_next() -> None:
    predict = Predictor({"net": SEED_0}, device="cpu", batch=4)
    before = predict(galaxies(3))["net"]
    predict(galaxies(2, size=64))
    assert_close(predict(galaxies(3))["net"], before)


def test_only_an_image_whose_logits_are_not_finite_has_no_probabilities() -> None:
    images = np.full((3, 3, 8, 8), 100, np.uint8)
    images[1, 0] = 255
    found = predicted(images, PROBE).probabilities
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[[0, 2]], 1 / 3, rtol=1e-6)


def test_the_choice_names_device_precision_batch_and_threads() -> None:
    predict = Predictor({"net": SEED_0}, device="cpu", batch=5, threads=1)
    assert predict.device == "cpu"
    assert predict.choice == "cpu: asked for; float32, batches of 5, 1 threads"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_an_error_of_the_job() -> None:
    with pytest.raises(JobError, match="device cuda was asked for"):
        Predictor({"net": SEED_0}, device="cuda")
    assert Predictor({"net": SEED_0}).choice.startswith("cpu: torch sees no CUDA; float32, batches of 16, ")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_a_gpu_says_what_the_cpu_says() -> None:
    images = galaxies(9)
    on_gpu = Predictor({"net": SEED_0}, device="cuda", batch=2)(images)["net"]
    assert_close(on_gpu, predicted(images), tolerance=1e-2)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 3, 32, 32), np.float32), "expected uint8 images"),
        (np.zeros((3, 32, 32), np.uint8), "expected uint8 images"),
        (np.zeros((2, 3, 32, 16), np.uint8), "expected uint8 images"),
        (np.zeros((2, 1, 32, 32), np.uint8), "net: expected 3 channels, got 1"),
    ],
)
def test_images_that_do_not_fit_are_refused(images: NDArray[np.uint8], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predicted(images)


def test_networks_and_inference_run_with_torch_numpy_and_safetensors_alone() -> None:
    """All but the two whose library is an extra, which say so."""
    blocked = ("ray", "astropy", "pydantic", "pyarrow", "fsspec", "scipy", "statmorph", "photutils")
    code = f"""
import sys
for name in (*{blocked}, "transformers", "torchvision.models.maxvit"): sys.modules[name] = None
import torch
import pipeline.models.ann, pipeline.models.descriptions, pipeline.models.receptive, pipeline.training.indicators
import pipeline.inference, pipeline.attention, pipeline.models.checkpoint
from pipeline.errors import MissingExtra
from tests.test_invariances import SMALL
for name, config in SMALL.items():
    try:
        config.build().eval()(torch.zeros(1, config.bands, config.size, config.size))
    except MissingExtra:
        print(name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["cvt", "maxvit"]), done.stderr


def test_a_precision_is_judged_by_the_classes_that_it_changes() -> None:
    predict = Predictor({"net": SEED_0}, device="cpu", batch=16)
    assert predict.flips("float32", 32) == 0
    assert 0 <= predict.flips("bfloat16", 32) < 0.5
    assert predict.precision == "float32"  # as before


def test_a_precision_that_is_asked_for_is_the_one_that_is_used() -> None:
    images = galaxies(4)
    exact, coarse = (
        Predictor({"net": SEED_0}, device="cpu", batch=4, precision=precision)(images)["net"].logits
        for precision in ("float32", "bfloat16")
    )
    assert 0 < np.abs(exact - coarse).max() < 0.05
    assert "bfloat16" in Predictor({"net": SEED_0}, device="cpu", precision="bfloat16").choice
