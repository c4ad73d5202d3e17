"""The Legacy Surveys' cutout service: what to ask it for, and what its answers mean.

Its traps (reference archives.md 1.2, from the service's own code): more than 3000 pixels are clipped, an unknown
band letter gives the layer's own bands, no data is 0, flux keeps its unit at the native pixel scale only.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.data import Expected, Product, Source
from pipeline.errors import BadImage
from pipeline.surveys.served import address

URL = "https://www.legacysurvey.org/viewer/fits-cutout"
PIXEL = 0.262  # arcsec, native: at any other the numbers are no nanomaggies a pixel
MOST_PIXELS = 3000  # a side; more are clipped without a word


def layer(release: str, region: str, bands: Sequence[str]) -> str:
    """The layer of one telescope's images; DR11 gives i only where a layer is asked for by that name."""
    suffix = "-griz" if release == "dr11" and "i" in bands else ""
    return f"ls-{release}-{region}{suffix}"


def brick_cutout(url: str, release: str, bands: Sequence[str], source: Source, pixels: int) -> Product:
    """`pixels` x `pixels` of 0.262 arcsec around a source of the region that its tile begins with.

    Raises BadImage where the service would clip.
    """
    if pixels > MOST_PIXELS:
        raise BadImage(f"{source.tile}: {pixels} pixels are wanted, the cutout service gives {MOST_PIXELS} at most")
    region = source.tile.partition("/")[0]
    together = "".join(bands)
    place = {"ra": f"{source.ra:.7f}", "dec": f"{source.dec:.7f}"}
    asked = address(
        url, **place, layer=layer(release, region, bands), pixscale=PIXEL, size=pixels, bands=together
    )  # fmt: skip
    centre = (source.ra, source.dec)
    return Product(
        source.tile, "cutout", None, asked, Expected(together, (pixels, pixels), PIXEL, centre, covered=True)
    )
