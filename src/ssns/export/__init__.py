"""Trained networks in the formats of other tools. What they need beside torch is imported where it is used."""

from ssns.export.bioimageio import Description, export_bioimageio
from ssns.export.onnx import export_onnx

__all__ = ["Description", "export_bioimageio", "export_onnx"]
