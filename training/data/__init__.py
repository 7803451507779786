"""Images of good parts to train on, and labelled images to evaluate with."""
