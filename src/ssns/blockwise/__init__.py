"""Work cut into blocks: the grid of blocks with their halo, and markers of what is done."""

from ssns.blockwise.grid import Block, blocks
from ssns.blockwise.markers import Markers, MissingBlocksError

__all__ = ["Block", "Markers", "MissingBlocksError", "blocks"]
