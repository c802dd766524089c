"""Geometry on numpy arrays: volumes, resampling, normalisation, tiles. No JAX."""
