"""Measurements of loom_py, side by side with the plain SDK. Figures are printed, never asserted."""
