"""INT8 calibration and thresholds."""
