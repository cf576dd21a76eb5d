"""The experiment: one TOML file that says what is learned from, how, and what is made of it."""

from ssns.experiment.files import load_experiment
from ssns.experiment.models import LEEWAY, VOLUME_FILES, Experiment, Region, Role, SegmentationSettings, VolumeSettings
from ssns.experiment.roles import check_roles, region_boxes

__all__ = [
    "LEEWAY",
    "VOLUME_FILES",
    "Experiment",
    "Region",
    "Role",
    "SegmentationSettings",
    "VolumeSettings",
    "check_roles",
    "load_experiment",
    "region_boxes",
]
