"""How good a checkpoint is, and how far its answers can be believed.

    intervals     how sure a figure is             Wilson, bootstrap, DeLong
    scores        are the classes right?           confusion, accuracy, macro precision, recall and F1
    calibration   are the probabilities right?     Brier, log loss, calibration error, temperature, risk and coverage

Torch, numpy, pyarrow, pillow and matplotlib are all that it needs: no astropy, no ray, no pydantic.
"""
