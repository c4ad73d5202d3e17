"""What Cutana takes for the objects of `decode.py`, which runs this in Cutana's own environment: no import of ours."""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main() -> None:
    import pandas as pd
    from cutana import create_cutouts_direct, get_default_config

    asked: Any = json.load(sys.stdin)
    config = get_default_config()
    config.fits_extensions = [asked["extension"]]
    config.do_only_cutout_extraction = True
    config.apply_flux_conversion = False
    config.target_resolution = 256
    rows = pd.DataFrame(asked["rows"])
    create_cutouts_direct(rows.head(1), config, max_workers=1)
    started = time.process_time()
    results = create_cutouts_direct(rows, config, max_workers=1)
    seconds = time.process_time() - started
    found = sum(len(result["metadata"]) for result in results)
    if found != len(rows):
        raise SystemExit(f"{found} of {len(rows)} cutouts came")
    sys.stdout.write(f"{seconds}\n")


if __name__ == "__main__":
    main()
