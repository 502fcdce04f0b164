import hashlib
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def frames_tyx():
    """Twelve frames of 10 x 14 pixels whose every pixel is different enough to tell a shift, a flip or a swap."""
    rng = np.random.default_rng(5)
    return rng.integers(100, 4000, (12, 10, 14)).astype(np.uint16)


@pytest.fixture
def unchanged(tmp_path):
    """Return a function that tells whether every file of tmp_path is as it was when the function was made."""

    def state():
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(tmp_path).rglob("*") if path.is_file()}

    class Watch:
        def start(self):
            self.before = state()

        def holds(self):
            return state() == self.before

    return Watch()
