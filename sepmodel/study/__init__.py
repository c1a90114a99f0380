"""Many cases at once: sweeps, uncertainty, sensitivity, fits."""
