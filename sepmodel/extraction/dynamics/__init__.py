"""Extraction trains in time: start-up, upsets, control."""
