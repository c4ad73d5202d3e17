"""What Zoobot takes to load an image for its networks, run in Zoobot's own environment: no import of ours.

Its data module (galaxy_datasets, as zoobot.pytorch.predictions.predict_on_catalog uses it) over JPEG files of 256
pixels: decoded and made tensors, batches of 16, in this process.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

IMAGES, SIZE, BATCH = 192, 256, 16


def main() -> None:
    import numpy as np
    import pandas as pd
    import torch
    from galaxy_datasets.pytorch.galaxy_datamodule import CatalogDataModule
    from PIL import Image
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="zoobot-") as folder:
        rng, files = np.random.default_rng(0), []
        for number in range(IMAGES):
            files.append(str(Path(folder) / f"{number}.jpg"))
            Image.fromarray(rng.integers(0, 80, (SIZE, SIZE, 3), dtype=np.uint8)).save(files[-1])
        catalogue = pd.DataFrame({"id_str": [str(number) for number in range(IMAGES)], "file_loc": files})
        transform = v2.Compose([v2.ToImage(), v2.Resize((SIZE, SIZE)), v2.ToDtype(torch.float32, scale=True)])
        module = CatalogDataModule(
            label_cols=None, predict_catalog=catalogue, test_transform=transform, batch_size=BATCH, num_workers=0
        )
        module.setup(stage="predict")
        for _ in module.predict_dataloader():
            break
        started = time.process_time()
        batches = sum(1 for _ in module.predict_dataloader())
        seconds = time.process_time() - started
    if batches * BATCH != IMAGES:
        raise SystemExit(f"{batches} batches of {BATCH} came, expected {IMAGES} images")
    sys.stdout.write(f"{1e3 * seconds / IMAGES}\n")


if __name__ == "__main__":
    main()
