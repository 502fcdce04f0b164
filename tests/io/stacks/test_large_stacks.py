import json
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

from napari_volumetric_smlm.io.stacks import full_hash, open_stack
from napari_volumetric_smlm.io.stacks.frames import ContiguousFrames

SIZE = (40_000, 512, 512)


def write_sparse(path, shape, layout):
    """Write a stack of zeros that takes kilobytes on disk and gigabytes in name; every page still has its own header."""
    if layout == "one_page":
        tifffile.imwrite(path, shape=shape, dtype="uint16", bigtiff=True, photometric="minisblack", metadata={"axes": "TYX"}, truncate=True)
    elif layout == "headers_at_end":
        tifffile.imwrite(path, shape=shape, dtype="uint16", bigtiff=True, photometric="minisblack", metadata=None)
    elif layout == "ome":
        tifffile.imwrite(path, shape=shape, dtype="uint16", bigtiff=True, photometric="minisblack", metadata={"axes": "TYX"}, ome=True)
    else:
        count, rows, columns = shape
        tags = [(256, 4, columns), (257, 4, rows), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 16, 0), (277, 3, 1), (278, 4, rows)]
        tags.append((279, 16, rows * columns * 2))
        entry = np.dtype([("code", "<u2"), ("type", "<u2"), ("count", "<u8"), ("value", "<u8")])
        table = np.array([(code, kind, 1, value) for code, kind, value in tags], entry)
        header_bytes = 8 + table.nbytes + 8
        stride = -(-(header_bytes + rows * columns * 2) // 4096) * 4096
        with path.open("wb") as stream:
            stream.write(b"II\x2b\x00\x08\x00\x00\x00" + (4096).to_bytes(8, "little"))
            for frame in range(count):
                place = 4096 + frame * stride
                table["value"][5] = place + header_bytes
                following = place + stride if frame < count - 1 else 0
                stream.seek(place)
                stream.write(len(table).to_bytes(8, "little") + table.tobytes() + following.to_bytes(8, "little"))
            stream.truncate(4096 + count * stride)


@pytest.fixture
def sparse(tmp_path):
    probe = tmp_path / "probe"
    with probe.open("wb") as stream:
        stream.truncate(2**32)
    if probe.stat().st_blocks * 512 > 2**20:
        pytest.skip("this file system has no sparse files")
    return tmp_path / "large.tif"


@pytest.mark.parametrize("layout", ["one_page", "headers_at_end", "ome"])
def test_a_bigtiff_of_twenty_gigabytes_opens_in_under_two_seconds(sparse, layout):
    write_sparse(sparse, SIZE, layout)
    start = time.process_time()
    stack = open_stack(sparse)
    seconds = time.process_time() - start
    assert stack.counts_tyx[0].shape == SIZE
    assert seconds < 2
    assert stack.counts_tyx[0][39_999, 500:, 500:].sum() == 0


def test_pages_that_were_appended_one_by_one_open_quickly_and_point_at_the_right_bytes(sparse):
    write_sparse(sparse, (4000, 64, 64), "appended")
    known = np.arange(64 * 64, dtype="<u2").reshape(64, 64)
    with tifffile.TiffFile(sparse) as tiff:
        place = tiff.pages[3210].dataoffsets[0]
    with sparse.open("r+b") as stream:
        stream.seek(place)
        stream.write(known.tobytes())
    start = time.process_time()
    counts = open_stack(sparse).counts_tyx[0]
    assert time.process_time() - start < 1
    assert isinstance(counts, ContiguousFrames)
    np.testing.assert_array_equal(counts[3210], known)
    assert not counts[3209].any()
    assert not counts[3211].any()


def test_reading_two_thousand_frames_needs_the_memory_of_one_batch(sparse):
    write_sparse(sparse, SIZE, "one_page")
    script = """
import json, resource, sys
from napari_volumetric_smlm.io.stacks import open_stack
counts = open_stack(sys.argv[1]).counts_tyx[0]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for start in range(0, 2000, 8):
    batch = counts[start : start + 8]
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"growth_mib": (after - before) / 1024, "torch": "torch" in sys.modules, "napari": "napari" in sys.modules}))
"""
    pytest.importorskip("resource", reason="peak memory is known on POSIX systems only")
    done = subprocess.run([sys.executable, "-c", script, str(sparse)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["growth_mib"] < 60  # the 2,000 frames have 1,000 MiB
    assert found["torch"] is False
    assert found["napari"] is False


def test_the_full_hash_reads_every_byte(tmp_path):
    import hashlib

    path = tmp_path / "a.bin"
    path.write_bytes(np.random.default_rng(0).bytes(9 * 2**20 + 17))
    assert full_hash([path]) == hashlib.sha256(path.read_bytes()).hexdigest()
