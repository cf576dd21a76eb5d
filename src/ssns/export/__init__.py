"""Trained networks in the formats of other tools. What they need beside torch is imported where it is used."""

from ssns.export.bioimageio import Description, export_bioimageio
from ssns.export.onnx import export_onnx
from ssns.export.reference import Exported, Imported, read_reference, write_reference

__all__ = [
    "Description",
    "Exported",
    "Imported",
    "export_bioimageio",
    "export_onnx",
    "read_reference",
    "write_reference",
]
