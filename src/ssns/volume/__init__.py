"""Volumes: one lazy array with voxel size and origin over the formats that labs have.

One module per format (``tiff``, ``pages``, ``hdf5``, ``zarr``) turns a path into a ``Volume``; ``opening`` chooses
among them by what is at the path. Results are written as OME-Zarr 0.5; ``hdf5`` writes what programs of the field
read that know no Zarr.
"""

from ssns.volume.datasets import Role
from ssns.volume.labels import check_labels, check_raw
from ssns.volume.opening import fingerprint, open_volume
from ssns.volume.volume import LazyArray, Volume, from_array
from ssns.volume.writing import VolumeWriter, create_volume, write_volume

__all__ = [
    "LazyArray",
    "Role",
    "Volume",
    "VolumeWriter",
    "check_labels",
    "check_raw",
    "create_volume",
    "fingerprint",
    "from_array",
    "open_volume",
    "write_volume",
]
