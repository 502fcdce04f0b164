"""What TIFF dialects say about pixel size, steps, times and the camera, in our units."""

from __future__ import annotations

import contextlib
import html
import math
import re
from typing import Any

import tifffile

from .opened import OpenedFile

NM_PER_UNIT = {
    "nm": 1.0,
    "nanometer": 1.0,
    "um": 1e3,
    "µm": 1e3,
    "μm": 1e3,
    "\\u00b5m": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "micrometer": 1e3,
    "mm": 1e6,
    "millimeter": 1e6,
    "cm": 1e7,
    "centimeter": 1e7,
    "m": 1e9,
    "meter": 1e9,
    "inch": 2.54e7,
    "in": 2.54e7,
    "å": 0.1,
    "angstrom": 0.1,
    "pm": 1e-3,
}
MS_PER_UNIT = {"ms": 1.0, "millisecond": 1.0, "s": 1e3, "sec": 1e3, "second": 1e3, "µs": 1e-3, "us": 1e-3, "min": 6e4, "minute": 6e4}
SQUARE_TOLERANCE = 0.005
AGREEMENT_TOLERANCE = 0.02
# a plain TIFF's resolution tag is meant for printers; it is believed only where it makes sense for a camera
PLAUSIBLE_PIXEL_NM = (10.0, 1000.0)


def read_tiff_metadata(tiff: tifffile.TiffFile, opened: OpenedFile) -> None:
    """Fill in what the dialects of the file say; sources that contradict each other become warnings."""
    said: list[tuple[str, dict[str, Any]]] = []
    if tiff.is_micromanager:
        said.append(("Micro-Manager", _read_micromanager(tiff)))
        _compare_with_plan(tiff, opened)
    if tiff.is_ome:
        said.append(("OME", read_ome_header(tiff.ome_metadata or "", opened)))
    if tiff.is_imagej:
        said.append(("ImageJ", _read_imagej(tiff, opened)))
    if not any("pixel_nm" in values for _, values in said):
        said.append(("TIFF resolution", _read_resolution(tiff)))
    for name in ("pixel_nm", "z_step_nm", "frame_interval_ms"):
        offers = [(source, float(values[name])) for source, values in said if values.get(name) and math.isfinite(values[name])]
        if not offers:
            continue
        setattr(opened, name, offers[0][1])
        for source, value in offers[1:]:
            if abs(value / offers[0][1] - 1) > AGREEMENT_TOLERANCE:
                opened.warnings.append(
                    f"{name} contradicts itself: {offers[0][0]} says {offers[0][1]:g}, {source} says {value:g}; the first is used"
                )
    camera: dict[str, Any] = {}
    for _, values in reversed(said):
        camera.update(values.get("camera", {}))
    if camera:
        opened.metadata["camera"] = camera


def square_pixel_nm(x_nm: float | None, y_nm: float | None, opened: OpenedFile, source: str) -> float | None:
    """One pixel size for both axes; unequal sides become a warning and their mean is used."""
    sides = [side for side in (x_nm, y_nm) if side is not None and math.isfinite(side) and side > 0]
    if not sides:
        return None
    if len(sides) == 2 and abs(sides[0] / sides[1] - 1) > SQUARE_TOLERANCE:
        opened.warnings.append(
            f"{source} says that pixels are not square: {sides[0]:g} nm along x, {sides[1]:g} nm along y; set the pixel size"
        )
    return sum(sides) / len(sides)


def read_ome_header(xml: str, opened: OpenedFile) -> dict[str, Any]:
    """Read the few attributes that matter from OME-XML, without parsing an element for each of 40,000 planes."""
    pixels = _attributes(xml, "Pixels")
    values: dict[str, Any] = {}
    x_nm = _length_nm(pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit", "µm"))
    y_nm = _length_nm(pixels.get("PhysicalSizeY"), pixels.get("PhysicalSizeYUnit", "µm"))
    values["pixel_nm"] = square_pixel_nm(x_nm, y_nm, opened, "OME metadata")
    values["z_step_nm"] = _length_nm(pixels.get("PhysicalSizeZ"), pixels.get("PhysicalSizeZUnit", "µm"))
    interval = _number(pixels.get("TimeIncrement"))
    if interval:
        values["frame_interval_ms"] = interval * MS_PER_UNIT.get(pixels.get("TimeIncrementUnit", "s"), 1e3)
    description = re.search(r"<(?:\w+:)?Description>([^<]*)</", xml)
    if description is not None:
        opened.metadata["ome_description"] = html.unescape(description[1])[:20_000]
    plane = _attributes(xml, "Plane")
    settings, detector = _attributes(xml, "DetectorSettings"), _attributes(xml, "Detector")
    exposure = _number(plane.get("ExposureTime"))
    camera = {
        "name": detector.get("Model"),
        "offset_counts": _number(settings.get("Offset", detector.get("Offset"))),
        # OME's Gain has no unit: some write electrons a count, others the setting of the amplifier
        "gain_setting": _number(settings.get("Gain", detector.get("Gain"))),
        "em_gain": _number(detector.get("AmplificationGain")),
        "read_noise_e": _number(settings.get("ReadOutNoise")),
        "exposure_ms": exposure * MS_PER_UNIT.get(plane.get("ExposureTimeUnit", "s"), 1e3) if exposure else None,
    }
    values["camera"] = {name: value for name, value in camera.items() if value is not None}
    return values


def _read_imagej(tiff: tifffile.TiffFile, opened: OpenedFile) -> dict[str, Any]:
    meta = tiff.imagej_metadata or {}
    values: dict[str, Any] = {}
    unit = str(meta.get("unit", "")).strip().lower()
    per_unit = NM_PER_UNIT.get(unit)
    if per_unit is not None:
        x_pixels, y_pixels = _resolution(tiff)
        # exactly one pixel a unit is what ImageJ writes when nobody has set a scale
        x_nm, y_nm = (per_unit / pixels if pixels and pixels != 1 else None for pixels in (x_pixels, y_pixels))
        values["pixel_nm"] = square_pixel_nm(x_nm, y_nm, opened, "ImageJ metadata")
        spacing = _number(meta.get("spacing"))
        if spacing:
            values["z_step_nm"] = spacing * per_unit
    interval, rate = _number(meta.get("finterval")), _number(meta.get("fps"))
    if interval:
        values["frame_interval_ms"] = interval * MS_PER_UNIT.get(str(meta.get("tunit", "s")).lower(), 1e3)
    elif rate:
        values["frame_interval_ms"] = 1e3 / rate
    if isinstance(meta.get("Info"), str):
        opened.metadata["imagej_info"] = meta["Info"][:20_000]
    return values


def _read_resolution(tiff: tifffile.TiffFile) -> dict[str, Any]:
    unit = tiff.pages.first.tags.get("ResolutionUnit")
    per_unit = {2: 2.54e7, 3: 1e7}.get(int(unit.value)) if unit is not None else None
    x_pixels, y_pixels = _resolution(tiff)
    if per_unit is None or not x_pixels or not y_pixels:
        return {}
    pixel_nm = per_unit / x_pixels
    low, high = PLAUSIBLE_PIXEL_NM
    return {"pixel_nm": pixel_nm} if low <= pixel_nm <= high and abs(x_pixels / y_pixels - 1) < SQUARE_TOLERANCE else {}


def _read_micromanager(tiff: tifffile.TiffFile) -> dict[str, Any]:
    meta = tiff.micromanager_metadata or {}
    summary = meta.get("Summary") or {}
    tag = tiff.pages.first.tags.get("MicroManagerMetadata")
    frame = tag.value if tag is not None and isinstance(tag.value, dict) else {}
    values: dict[str, Any] = {}
    pixel_um = _number(_first(frame, summary, keys=("PixelSizeUm", "PixelSize_um")))
    if pixel_um:
        values["pixel_nm"] = pixel_um * 1e3
    step_um = _number(_first(summary, frame, keys=("z-step_um", "ZStepUm")))
    if step_um:
        values["z_step_nm"] = step_um * 1e3
    interval = _number(_first(summary, keys=("Interval_ms", "IntervalMs"))) or _elapsed_per_frame_ms(tiff, frame)
    if interval:
        values["frame_interval_ms"] = interval
    camera_name = frame.get("Core-Camera") or frame.get("Camera")
    prefix = f"{camera_name}-" if camera_name else ""
    camera = {
        "name": camera_name,
        "exposure_ms": _number(_first(frame, keys=("Exposure-ms", f"{prefix}Exposure"))),
        "em_gain": _em_gain(frame, prefix),
        "gain_setting": _number(_first(frame, keys=(f"{prefix}Gain",))),
        "offset_counts": _number(_first(frame, keys=(f"{prefix}Offset",))),
        "gain_e_per_count": _number(_first(frame, keys=(f"{prefix}CONVERSION FACTOR COEFF", f"{prefix}Sensitivity"))),
        "binning": str(frame.get("Binning") or frame.get(f"{prefix}Binning") or "") or None,
        "readout": str(frame.get(f"{prefix}ReadoutMode") or frame.get(f"{prefix}ScanMode") or "") or None,
    }
    values["camera"] = {name: value for name, value in camera.items() if value is not None}
    return values


def _compare_with_plan(tiff: tifffile.TiffFile, opened: OpenedFile) -> None:
    summary = (tiff.micromanager_metadata or {}).get("Summary") or {}
    planned = math.prod(int(_number(summary.get(key)) or 1) for key in ("Frames", "Slices", "Channels", "Positions"))
    found = math.prod(tiff.series[0].shape[:-2])
    if tiff.is_mmstack and found < planned:
        opened.warnings.append(
            f"{found:,} of {planned:,} planned frames are in the file: stopped early, or split over files that are missing"
        )


def _em_gain(frame: dict[str, Any], prefix: str) -> float | None:
    gain = _number(_first(frame, keys=(f"{prefix}MultiplierGain", f"{prefix}EMGain", f"{prefix}Gain-EM", "Andor-Gain")))
    switched = str(frame.get(f"{prefix}EMSwitch", frame.get(f"{prefix}Output_Amplifier", ""))).lower()
    return 1.0 if gain and switched in {"off", "conventional", "standard conventional"} else gain if gain and gain >= 1 else None


def _elapsed_per_frame_ms(tiff: tifffile.TiffFile, frame: dict[str, Any]) -> float | None:
    start, count = _number(frame.get("ElapsedTime-ms")), len(tiff.pages)
    if start is None or count < 2:
        return None
    with contextlib.suppress(Exception):  # the last page of an aborted recording may be unreadable; the interval is then unknown
        tag = tiff.pages.get(count - 1, aspage=True).tags.get("MicroManagerMetadata")
        end = _number(tag.value.get("ElapsedTime-ms")) if tag is not None else None
        if end is not None and end > start:
            return (end - start) / (count - 1)
    return None


def _resolution(tiff: tifffile.TiffFile) -> tuple[float | None, float | None]:
    found: list[float | None] = []
    for name in ("XResolution", "YResolution"):
        tag = tiff.pages.first.tags.get(name)
        value = None
        if tag is not None and isinstance(tag.value, tuple) and len(tag.value) == 2 and tag.value[0] and tag.value[1]:
            value = tag.value[0] / tag.value[1]
        found.append(value)
    return found[0], found[1]


def _attributes(xml: str, element: str) -> dict[str, str]:
    match = re.search(rf"<(?:\w+:)?{element}\b([^>]*)>", xml)
    return dict(re.findall(r"([\w:]+)\s*=\s*\"([^\"]*)\"", match[1])) if match else {}


def _length_nm(value: str | None, unit: str) -> float | None:
    number, per_unit = _number(value), NM_PER_UNIT.get(unit.strip().lower())
    return number * per_unit if number and per_unit else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(str(value).split()[0])
    except (ValueError, IndexError):
        return None
    return number if math.isfinite(number) else None


def _first(*sources: dict[str, Any], keys: tuple[str, ...]) -> Any:
    for source in sources:
        for key in keys:
            if source.get(key) not in (None, ""):
                return source[key]
    return None
