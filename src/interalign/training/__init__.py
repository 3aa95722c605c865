"""Training on conversation trees: packing, objectives, the loop, and the checkpoints that come out."""
