"""Liquid-liquid cascades: inputs, stages, shortcuts and design."""
