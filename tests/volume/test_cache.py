import pickle

import numpy as np

from ssns.volume.cache import DecodedCache


def test_the_least_recently_used_piece_goes_first():
    cache, decoded = DecodedCache(limit=30), []

    def get(key, size=10):
        def decode():
            decoded.append(key)
            return np.full(size, ord(key), np.uint8)

        piece = cache.get(key, decode)
        assert (piece == ord(key)).all()

    for key in "abcabcadbacd":
        get(key)
    #   a b c miss; a b c a hit; d drops b; b drops c; a hit; c drops d; d drops b
    assert "".join(decoded) == "abcdbcd"
    get("z", size=31)  # larger than the cache: handed out, and nothing else goes
    get("a")
    assert "".join(decoded) == "abcdbcdz"


def test_a_pickled_cache_arrives_empty():
    cache = DecodedCache(limit=30)
    cache.get("a", lambda: np.zeros(3))
    copy = pickle.loads(pickle.dumps(cache))
    np.testing.assert_array_equal(copy.get("a", lambda: np.ones(3)), 1)
