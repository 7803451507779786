"""How good a trained detector is on labelled test images: figures, pictures and a report for people."""
