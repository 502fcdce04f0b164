"""Networks: layers only."""
