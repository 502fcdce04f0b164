"""Raw stacks of every format, opened lazily."""

from .against_instrument import compare_with_instrument
from .checks import check_frames, full_counts
from .fingerprint import full_hash
from .matlab_arrays import sniff_matlab
from .notes import note_path, read_note, write_note
from .opening import open_stack, sniff_stack

__all__ = [
    "check_frames",
    "compare_with_instrument",
    "full_counts",
    "full_hash",
    "note_path",
    "open_stack",
    "read_note",
    "sniff_matlab",
    "sniff_stack",
    "write_note",
]
