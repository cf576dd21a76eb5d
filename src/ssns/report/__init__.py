"""Pictures and the page that show how good a segmentation is and where it errs.

Everything takes NumPy arrays and is torch-free; matplotlib, Pillow and jinja2 are imported on first use.
"""

from ssns.report.canvas import Picture, write_picture
from ssns.report.colors import label_colors
from ssns.report.html import COLUMNS, Column, Table, write_report
from ssns.report.pictures import chosen_sections, comparison, error_map, section_overlay, training_picture
from ssns.report.plots import Curve, curves

__all__ = [
    "COLUMNS",
    "Column",
    "Curve",
    "Picture",
    "Table",
    "chosen_sections",
    "comparison",
    "curves",
    "error_map",
    "label_colors",
    "section_overlay",
    "training_picture",
    "write_picture",
    "write_report",
]
