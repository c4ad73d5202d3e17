"""What each network is made of, without torch: all that a plan reads of a checkpoint. One file a network."""
