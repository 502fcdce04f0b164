"""What is written as a whole or not at all."""

from __future__ import annotations

import errno
import os

import pytest

from napari_volumetric_smlm.errors import OutputError
from napari_volumetric_smlm.io.atomic import replacing


def test_what_the_system_refuses_is_told_without_its_number(tmp_path):
    target = tmp_path / "model.safetensors"
    target.write_bytes(b"before")
    with pytest.raises(OutputError, match=r"model.safetensors: File too large; nothing was changed") as refused, replacing(target):
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    assert "Errno" not in str(refused.value)
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]
