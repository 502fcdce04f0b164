"""Labels of columns and the units in them."""

from __future__ import annotations

import re

# nm for one unit of length
LENGTHS_NM: dict[str, float] = {"nm": 1.0, "um": 1e3, "µm": 1e3, "μm": 1e3, "mm": 1e6, "m": 1e9, "angstrom": 0.1}
PIXEL_UNITS = frozenset({"px", "pixel", "pixels"})
COUNT_UNITS = frozenset({"adu", "count", "counts", "a/d count", "dn"})
LIGHT_COLUMNS = frozenset({"photons", "sigma_photons", "background_photons", "sigma_background_photons", "background_std_photons"})
OTHER_UNITS = frozenset({"photon", "photons", "e", "frame", "frames", "fr", "1", "dimensionless", "deg", "rad"})
LABEL = re.compile(r"^(?P<name>.*?)\s*[\[(](?P<unit>[^\])]*)[\])]\s*$")


def split_label(label: str) -> tuple[str, str]:
    """Return name and unit of a column label, in lower case: `X (nm)` and `"x [nm]"` become x and nm.

    What stands in brackets without being a unit belongs to the name.
    """
    text = label.strip().strip('"').strip()
    found = LABEL.match(text)
    if found:
        unit = found["unit"].strip()
        known = unit in LENGTHS_NM or unit.lower() in LENGTHS_NM or unit.lower() in PIXEL_UNITS | COUNT_UNITS | OTHER_UNITS
        if known:
            return found["name"].strip().lower(), unit if unit in LENGTHS_NM else unit.lower()
    return text.lower(), ""
