"""Networks: plain ``nn.Module`` classes, each with its settings."""

from ssns.networks.protocol import AffinityNetwork
from ssns.networks.settings import Network, ResidualUNetSettings

__all__ = ["AffinityNetwork", "Network", "ResidualUNetSettings"]
