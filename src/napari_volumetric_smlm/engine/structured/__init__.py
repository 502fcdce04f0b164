"""Structured illumination: simulate, estimate patterns, reconstruct."""
