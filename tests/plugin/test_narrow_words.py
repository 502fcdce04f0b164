"""Words of the widgets where there is little room."""

from __future__ import annotations

import numpy as np
from qtpy.QtWidgets import QScrollArea

from napari_volumetric_smlm.domain.molecules import Localizations
from napari_volumetric_smlm.plugin.widgets.molecules import MoleculeTable
from napari_volumetric_smlm.plugin.widgets.sections import NARROWEST_PX, depth_words


def test_the_number_of_molecules_is_seen_beside_the_scroll_bar(qtbot):
    many = np.zeros(1_234_567)
    table = MoleculeTable()
    table.show_table(Localizations(columns={"frame": many, "z_nm": many, "y_nm": many, "x_nm": many}))
    # the narrow dock, and a part of the widget that is wider than it
    table.setMinimumWidth(NARROWEST_PX + 40)
    area = QScrollArea()
    qtbot.addWidget(area)
    area.setWidgetResizable(True)
    area.setWidget(table)
    area.resize(NARROWEST_PX, 150)
    area.show()
    qtbot.wait_until(lambda: table.count.width() > 0)
    right = table.count.mapTo(area, table.count.rect().topRight()).x()
    assert right < area.viewport().width()


def test_a_range_of_depths_is_not_broken_over_two_lines():
    assert depth_words(-2000, 2000) == "z\u00a0-2000\u00a0to\u00a02000\u00a0nm"
