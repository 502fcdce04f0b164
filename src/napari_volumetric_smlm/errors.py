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


def ran_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether an error that others raised, or what caused it, is a lack of memory.

    torch's own type is known by its name, because torch may not be loaded; on the processor torch raises a plain RuntimeError, whose
    words are all there is to know it by.
    """
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in str(error) or "not enough memory" in str(error)):
            return True
        error = error.__cause__
    return False
