"""How well scores and anomaly maps tell defective from good: per image, per pixel, per region, over seeds.

Scores are taken as they are: never clamped, never normalised. What only one class is there for is None.
"""
