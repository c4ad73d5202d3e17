"""Where labelled images come from, what their owners ask for and what they cannot show: for the cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where images come from, and what their owners ask for."""

    what: str
    licence: str
    cite: str
    limits: tuple[str, ...] = ()


SOURCES: Mapping[str, Source] = {  # by the folder below the data root
    "gz_sdss": Source(
        "SDSS colour images as shown to Galaxy Zoo volunteers, with the volunteers' classes",
        "The repositories that the images were taken from state no licence. SDSS images are free to use with credit "
        "to SDSS.",
        "Galaxy Zoo: Lintott et al. 2008, MNRAS 389, 1179; Lintott et al. 2011, MNRAS 410, 166; Willett et al. 2013, "
        "MNRAS 435, 2835. SDSS: sdss.org/collaboration/citing-sdss",
        (
            "Round, in-between and cigar are not votes: they are the volunteers' ellipticals, cut by a measured axis "
            "ratio. The headline therefore has four classes, the three together as smooth.",
            "All labelled images of the collection gz2_kaggle are spirals that volunteers called odd: figures for it "
            "stand apart.",
            "Galaxy Zoo's mergers include chance overlaps.",
            "The network was trained on g, r, i pictures of SDSS and serves g, r, z pictures of other surveys. Its "
            "temperature was fitted on SDSS: calibration elsewhere is what the transfer set shows and no more.",
        ),
    ),
    "first": Source(
        "VLA FIRST images of radio galaxies, from MiraBest (Porter and Scaife 2023, after Miraghaei and Best 2017) and "
        "the Radio Galaxy Dataset (Griese et al. 2023)",
        "FIRST: copyright University of California; scholarly, educational and private non-commercial use. MiraBest's "
        "repository: GPL-3. Radio Galaxy Dataset: MIT.",
        "FIRST: Becker, White and Helfand 1995, ApJ 450, 559. MiraBest: Porter and Scaife 2023, RASTI 2, 293; "
        "Miraghaei and Best 2017, MNRAS 466, 4346. Radio Galaxy Dataset: Griese, Kummer, Connor, Brüggen and "
        "Rustige 2023, Data in Brief 47, 108974",
        ("The sky noise of these images is cut to zero: on images with noise the network is untried.",),
    ),
    "clusters": Source(
        "SIMULATED X-ray images of galaxy clusters: beta models with Poisson noise (pipeline/training/clusters.py)",
        "Made by this package.",
        "Cavaliere and Fusco-Femiano 1976, A&A 49, 137; Santos et al. 2008, A&A 483, 35",
        ("No image of a real cluster was seen in training or in the tests. The figures say nothing of real clusters.",),
    ),
}
DECALS = (
    "The transfer set gz_decals is from the Galaxy10 DECaLS sample: Leung and Bovy 2019; Walmsley et al. 2022, MNRAS "
    "509, 3966; Dey et al. 2019, AJ 157, 168 (Legacy Surveys). It was never trained or tuned on."
)
