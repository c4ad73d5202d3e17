"""The networks of the review, by name. `network.py` says what a network is; each has one file of its own."""
