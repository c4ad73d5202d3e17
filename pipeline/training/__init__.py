"""What is learned from: how far a network's attention can be believed, measured where the sources are known.

    localisation    does the map lie on the source?           pointing game, attention within the mask
    perturbation    does the class hang on what it marks?     deletion and insertion
    consistency     does it turn and mirror with the sky?     quarter turns and mirror images
    randomisation   did training put it there?                the same network with its weights drawn anew
    focus_quality   all of these, of one network over a set of images

No one of them is enough. A network that marks the centre of every image scores well on place, turns and mirror
images without looking; only deletion and the drawn weights tell it from one that looks.
"""
