"""How good a checkpoint is, and how far its answers can be believed: `pipeline evaluate` and `pipeline card`.

    intervals     how sure a figure is              Wilson, bootstrap, DeLong
    scores        are the classes right?            confusion, accuracy, macro precision, recall and F1
    calibration   are the probabilities right?      Brier, log loss, calibration error, temperature, risk and coverage
    sets          what it is judged on              held-back collections, DECaLS, drawn galaxies, what is no galaxy
    answers       what it says of them
    judgement     all of this of one set
    fields        do galaxies fill the frame alike in training and in use?
    leak          did it learn the collection instead of the galaxy?
    novelty       are stars, spikes, trails, halos and empty sky told from galaxies?
    focus         where does it look?
    evaluate      all of it of one checkpoint       comparison   of several
    record        as JSON                           plots        as pictures
    writing       on disk                           card         as a model card

Torch, numpy, pyarrow, pillow and matplotlib are all that it needs: no astropy, no ray, no pydantic.
"""
