"""Tables of molecules in our own and other programs' formats; `conventions` says how each of them counts."""

from .conventions import FORMATS, Column, Format
from .files import columns_left_out, read_table, write_table
from .mapping import ColumnMapping, MappedColumn, read_columns, read_mapping, suggest_mapping, table_from_mapping, write_mapping
from .sniff import sniff_format

__all__ = [
    "FORMATS",
    "Column",
    "ColumnMapping",
    "Format",
    "MappedColumn",
    "columns_left_out",
    "read_columns",
    "read_mapping",
    "read_table",
    "sniff_format",
    "suggest_mapping",
    "table_from_mapping",
    "write_mapping",
    "write_table",
]
