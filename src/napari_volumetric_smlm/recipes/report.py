"""The report of a calibration: pictures and words, in one figure and in one file that needs nothing beside it."""

from __future__ import annotations

import base64
import html
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..domain.runs import Calibration
from ..engine.optics.aberrations import NAMES
from ..engine.optics.pupil import view_pupil
from ..engine.retrieve.gauge import zernike_coefficients
from ..errors import OutputError
from ..io.atomic import replacing
from .calibration_bounds import BACKGROUND_PHOTONS, PHOTONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SLICES_SHOWN = 8
BARS_SHOWN = 20


def calibration_figure(calibration: Calibration, view: int = 0) -> Figure:
    """Draw one view: measured beside fitted, correlation per slice, pupil, Zernike bars and the Cramér-Rao curve.

    The figure belongs to no window and no pyplot state; give it to any canvas.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.15, 1.6))
    pictures, curves = parts
    _draw_slices(pictures, calibration, view)
    axes = curves.subplots(2, 3)
    _draw_correlation(axes[0, 0], calibration)
    _draw_bound(axes[0, 1], calibration)
    _draw_bars(axes[1, 0], calibration, view)
    _draw_pupil(axes[1, 1], axes[1, 2], calibration, view)
    _draw_residual(axes[0, 2], calibration, view)
    return figure


def write_report(calibration: Calibration, path: str | os.PathLike[str]) -> Path:
    """Write the report as one self-contained HTML file.

    Raises
    ------
    OutputError
        If the file is not an .html file or cannot be written; an older one is then untouched.
    """
    target = Path(path)
    if target.suffix.lower() not in {".html", ".htm"}:
        raise OutputError(f"{target}: a calibration report is an .html file; choose that ending")
    pictures = []
    for view in range(len(calibration.instrument.views)):
        buffer = io.BytesIO()
        calibration_figure(calibration, view).savefig(buffer, format="png", dpi=110)
        pictures.append(base64.b64encode(buffer.getvalue()).decode("ascii"))
    with replacing(target) as partial:
        partial.write_text(_page(calibration, pictures), encoding="utf-8")
    return target


def zernike_content(calibration: Calibration, view: int = 0) -> dict[int, float]:
    """Zernike content of the retrieved phase, Noll index -> rad, root mean square."""
    pupil = view_pupil(calibration.instrument, view)
    weight = (pupil.amplitude_pyx.abs() ** 2).sum(0)
    return zernike_coefficients(pupil.phase_yx, weight, pupil.na_n)


def _draw_slices(figure: Any, calibration: Calibration, view: int) -> None:
    measured, fitted = calibration.measured_vzyx[view], calibration.fitted_vzyx[view]
    held = np.flatnonzero(calibration.held_out_z)
    pool = held if len(held) else np.arange(len(measured))
    shown = pool[np.unique(np.linspace(0, len(pool) - 1, min(SLICES_SHOWN, len(pool))).round().astype(int))]
    name = calibration.instrument.views[view].name
    unseen = "slices that the fit did not see" if len(held) else "slices"
    figure.suptitle(f"{name}: {unseen}, measured above, fitted below (square root of counts)")
    axes = figure.subplots(2, len(shown), squeeze=False)
    for column, k in enumerate(shown):
        top = float(np.sqrt(max(measured[k].max(), 1e-30)))
        for row, picture in enumerate((measured[k], fitted[k])):
            axis: Axes = axes[row, column]
            axis.imshow(np.sqrt(picture.clip(min=0)), cmap="gray", vmin=0, vmax=top)
            axis.set_axis_off()
        axes[0, column].set_title(f"slice {k}: {calibration.correlation_z[k]:.3f}", fontsize=9)


def _draw_correlation(axis: Axes, calibration: Calibration) -> None:
    k, score, held = np.arange(len(calibration.correlation_z)), calibration.correlation_z, calibration.held_out_z.astype(bool)
    axis.plot(k, calibration.neighbour_correlation_z, color="0.6", lw=1, label="mean of the neighbours")
    axis.plot(k[~held], score[~held], ".", color="C0", label="fitted")
    axis.plot(k[held], score[held], "o", color="C1", mfc="none", label="not seen by the fit")
    axis.set(xlabel="slice", ylabel="correlation", title="Model against measurement", ylim=(max(0.0, min(0.9, score.min() - 0.02)), 1.0))
    axis.legend(fontsize=8)


def _draw_bound(axis: Axes, calibration: Calibration) -> None:
    z, *sigmas = calibration.bound_nm.T
    for sigma, label in zip(sigmas, ("z", "y", "x"), strict=True):
        axis.plot(z / 1000, sigma, label=label)
    axis.set(
        xlabel="depth z (µm)", ylabel="smallest error (nm)", title=f"Cramér-Rao, {PHOTONS:g} photons on {BACKGROUND_PHOTONS:g} a pixel"
    )
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=8)


def _draw_bars(axis: Axes, calibration: Calibration, view: int) -> None:
    content = dict(list(zernike_content(calibration, view).items())[:BARS_SHOWN])
    axis.bar(list(content), list(content.values()), color="C0")
    axis.axhline(0, color="0.3", lw=0.8)
    axis.set(xlabel="Zernike term (Noll)", ylabel="rad rms", title="Zernike content of the phase")


def _draw_pupil(phase_axis: Axes, amplitude_axis: Axes, calibration: Calibration, view: int) -> None:
    pupil = view_pupil(calibration.instrument, view)
    light = torch.sqrt((pupil.amplitude_pyx.abs() ** 2).sum(0)).numpy()
    light = light / light.max()
    phase = np.angle(np.exp(1j * pupil.phase_yx.numpy()))
    edge = float(pupil.na_n[-1])
    frame = (-edge, edge, edge, -edge)
    image = phase_axis.imshow(np.where(light > 0, phase, np.nan), cmap="twilight", vmin=-np.pi, vmax=np.pi, extent=frame)
    phase_axis.figure.colorbar(image, ax=phase_axis, label="rad")
    phase_axis.set(title="Phase", xlabel="n sin θ")
    image = amplitude_axis.imshow(light, cmap="viridis", vmin=0, vmax=1, extent=frame)
    amplitude_axis.figure.colorbar(image, ax=amplitude_axis)
    amplitude_axis.set(title="Amplitude", xlabel="n sin θ")


def _draw_residual(axis: Axes, calibration: Calibration, view: int) -> None:
    worst = int(np.argmin(calibration.correlation_z))
    residual = calibration.measured_vzyx[view, worst] - calibration.fitted_vzyx[view, worst]
    top = float(np.abs(residual).max()) or 1.0
    image = axis.imshow(residual, cmap="RdBu", vmin=-top, vmax=top)
    axis.figure.colorbar(image, ax=axis, label="counts")
    axis.set(title=f"Residual of slice {worst}, the least well fitted")
    axis.set_axis_off()


def _page(calibration: Calibration, pictures: Sequence[str]) -> str:
    held = calibration.held_out_z.astype(bool)
    rows = [("Verdict", calibration.verdict), ("Passed", "yes" if calibration.passed else "no")]
    if held.any():
        unseen = calibration.correlation_z[held]
        rows.append(("Correlation on slices that the fit did not see", f"mean {unseen.mean():.4f}, lowest {unseen.min():.4f}"))
        rows.append(("Mean of the two neighbouring slices", f"{calibration.neighbour_correlation_z[held].mean():.4f}"))
    rows.append(("Correlation on fitted slices", f"mean {calibration.correlation_z[~held].mean():.4f}"))
    if calibration.opposite_correlation_held_out is not None:
        rows.append(("With the opposite direction of z", f"{calibration.opposite_correlation_held_out:.4f}"))
    rows.append(("Blur", ", ".join(f"{view.blur_nm:.0f} nm" for view in calibration.instrument.views)))
    rows.append(("Largest Zernike terms", _largest_terms(calibration)))
    rows.append(("Time", f"{calibration.seconds:.1f} s"))
    table = "\n".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(words)}</td></tr>" for name, words in rows)
    images = "\n".join(f'<p><img alt="view {v}" src="data:image/png;base64,{data}"></p>' for v, data in enumerate(pictures))
    slices: NDArray[Any] = np.stack([np.arange(len(held)), calibration.correlation_z, calibration.neighbour_correlation_z, held], 1)
    lines = "\n".join(
        f"<tr><td>{k:.0f}</td><td>{score:.4f}</td><td>{near:.4f}</td><td>{'not seen' if unseen else 'fitted'}</td></tr>"
        for k, score, near, unseen in slices
    )
    plan = html.escape(json.dumps(calibration.plan.model_dump(mode="json"), indent=1))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Calibration report</title>
<style>body {{font-family: sans-serif; max-width: 1200px; margin: 2em auto}}
th {{text-align: left; padding-right: 1em; vertical-align: top}} img {{max-width: 100%}}</style></head>
<body><h1>Calibration of {html.escape(calibration.instrument.name)}</h1>
<table>{table}</table>
{images}
<h2>Slices</h2><table><tr><th>slice</th><th>correlation</th><th>neighbours' mean</th><th></th></tr>
{lines}</table>
<h2>Settings</h2><pre>{plan}</pre>
</body></html>
"""


def _largest_terms(calibration: Calibration) -> str:
    words = []
    for view, scene in enumerate(calibration.instrument.views):
        content = sorted(zernike_content(calibration, view).items(), key=lambda item: -abs(item[1]))[:5]
        terms = ", ".join(f"{NAMES.get(j, f'Noll {j}')} {value:+.2f} rad" for j, value in content)
        words.append(terms if len(calibration.instrument.views) == 1 else f"{scene.name}: {terms}")
    return "; ".join(words)
