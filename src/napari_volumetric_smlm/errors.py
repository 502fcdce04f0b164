"""Every exception that this package raises on purpose, told apart by type.

A message says what was found, what was expected and what to do, with values and units.
The command line turns an `InputError` into exit status 2 and any other `SmlmError` into 1.
None of them derives from `RuntimeError`: worker threads take that for a deleted Qt object and swallow it.
"""


class SmlmError(Exception):
    """Base of all errors of this package."""


class InputError(SmlmError):
    """Something that the user handed in cannot be used as it is."""


class InstrumentError(InputError):
    """An instrument or calibration file is wrong or contradicts itself."""


class StackError(InputError):
    """A raw image stack cannot be read or is not what the job needs."""


class TableError(InputError):
    """A localization table cannot be read or lacks what the job needs."""


class PlanError(InputError):
    """The chosen settings contradict each other or the data."""


class ModelError(InputError):
    """A trained model is unsafe, damaged or made for another instrument."""


class CalibrationError(SmlmError):
    """A calibration was tried and did not lead to a usable point-spread function."""


class EngineError(SmlmError):
    """A computation failed: no convergence, out of memory, numbers that are not finite."""


class OutputError(SmlmError):
    """A result could not be written: disk full, read-only folder, name taken by a folder."""
