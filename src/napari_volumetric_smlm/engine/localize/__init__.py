"""From frames to molecules without training: search, refine, bound."""
