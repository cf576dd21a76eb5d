"""A cache of decoded pieces of a file, bounded in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from numpy.typing import NDArray

DEFAULT_BYTES = 256 * 2**20
"""Per volume and process: 100 sections of 1024 x 1024, 8 bit, decoded once, stay in memory."""


class DecodedCache:
    """The most recently used decoded pieces, up to a number of bytes; safe to use from many threads.

    A pickled cache arrives empty.

    Args:
        limit: Most bytes kept. A piece larger than this is handed out and not kept.
    """

    def __init__(self, limit: int = DEFAULT_BYTES) -> None:
        self._limit = limit
        self._size = 0
        self._pieces: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[DecodedCache], tuple[int]]:
        return DecodedCache, (self._limit,)

    def get(self, key: Hashable, decode: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The piece of ``key``, decoded unless it is still here; to be copied from, never written to.

        Two threads that miss at once both decode: holding the lock meanwhile would make all others wait.
        """
        with self._lock:
            if key in self._pieces:
                self._pieces.move_to_end(key)
                return self._pieces[key]
        piece = decode()
        with self._lock:
            if key not in self._pieces and piece.nbytes <= self._limit:
                self._pieces[key] = piece
                self._size += piece.nbytes
                while self._size > self._limit:
                    self._size -= self._pieces.popitem(last=False)[1].nbytes
        return piece
