"""Networks: plain ``nn.Module`` classes, each with its settings."""

from ssns.networks.extents import Extents
from ssns.networks.protocol import AffinityNetwork
from ssns.networks.settings import MalaUNetSettings, Network, ResidualUNetSettings

__all__ = ["AffinityNetwork", "Extents", "MalaUNetSettings", "Network", "ResidualUNetSettings"]
