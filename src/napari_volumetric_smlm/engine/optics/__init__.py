"""From an instrument to images: pupils, aberrations, point-spread functions."""
