"""Training: from labelled images to a checkpoint, and what tells whether a network's attention can be believed.

    recipe       everything that decides the weights, from one YAML file
    examples     labelled images out of Parquet, with the frame that a network is shown (frames)
    split        which galaxies are trained on and which only tested; duplicates finds one galaxy under two ids
    augment      the frame and what training changes about it; sampling: which images make an epoch
    loop         the steps; objectives: what they minimise; progress: the state on disk; journal: the metrics
    fitting      one run from its recipe to its checkpoint; series: many of them from one list

How far attention can be believed, measured where the sources are known:

    localisation    does the map lie on the source?           pointing game, attention within the mask
    perturbation    does the class hang on what it marks?     deletion and insertion
    consistency     does it turn and mirror with the sky?     quarter turns and mirror images
    randomisation   did training put it there?                the same network with its weights drawn anew
    focus_quality   all of these, of one network over a set of images

No one of them is enough. A network that marks the centre of every image scores well on place, turns and mirror
images without looking; only deletion and the drawn weights tell it from one that looks.
"""
