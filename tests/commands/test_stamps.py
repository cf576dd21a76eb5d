import json
import math
from contextlib import suppress

import pytest

from ssns.commands.stamps import HASHED_BYTES, Stamp, shown


def differences(before, now, folder):
    Stamp(folder / "x.stamp.json", lambda _: before).write()
    return Stamp(folder / "x.stamp.json", lambda _: now).differences()


def state(**changes):
    return {"files": 1, "bytes": 10, "modified_ns": 5, "shape": [1, 2, 3], "dtype": "uint8"} | changes


@pytest.mark.parametrize(
    ("before", "now", "changed"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 1}}, []),
        ({"a": {"b": 1}, "c": 2}, {"a": {"b": 2}, "d": 2}, ["a.b", "c", "d"]),
        ({"a": [1, 2]}, {"a": (1, 2)}, []),
        ({"a": {"type": "x", "p": 1}}, {"a": {"type": "y", "q": 1}}, ["a.type"]),
        ({"raw": state()}, {"raw": state(modified_ns=6, bytes=11)}, ["raw"]),
        ({"raw": state(blake2b="s")}, {"raw": state(blake2b="s", modified_ns=6, bytes=11, files=2)}, []),
        ({"raw": state(blake2b="s")}, {"raw": state(blake2b="t")}, ["raw.blake2b"]),
        ({"raw": state(blake2b="s")}, {"raw": state(blake2b="s", shape=[3, 2, 1])}, ["raw.shape"]),
        ({"raw": state(blake2b="s")}, {"raw": state()}, []),
        ({"raw": state()}, {"raw": state(blake2b="s")}, []),
        ({"x": state(made_at="s")}, {"x": state(made_at="s", modified_ns=6)}, []),
        ({"x": state(made_at="s")}, {"x": state(made_at="t")}, ["x.made_at"]),
        ({"x": state(made_at="s")}, {"x": state(modified_ns=6)}, ["x"]),
        ({"raw": state()}, {"raw": state(blake2b="s", modified_ns=6)}, ["raw"]),
    ],
)
def test_differences_name_what_has_changed(before, now, changed, tmp_path):
    assert differences(before, now, tmp_path) == changed


def test_no_stamp_is_not_no_difference(tmp_path):
    assert Stamp(tmp_path / "x.stamp.json", lambda _: {}).differences() is None


@pytest.mark.parametrize(
    ("now", "equal"),
    [
        (state(blake2b="s", modified_ns=6), True),
        (state(blake2b="t"), False),
        (state(blake2b="s", shape=[3, 2, 1]), False),
        (state(modified_ns=6), False),
    ],
)
def test_a_key_tells_data_where_they_are_known_and_files_where_not(now, equal, tmp_path):
    before = state(**({"blake2b": "s"} if "blake2b" in now else {}))
    keys = {Stamp(tmp_path, lambda _, raw=raw: {"a": 1, "raw": raw}).key for raw in (before, now)}
    assert (len(keys) == 1) == equal


@pytest.mark.parametrize(("verify", "asked"), [(False, [0, HASHED_BYTES]), (True, [math.inf])])
def test_data_are_hashed_to_be_kept_and_not_to_be_compared_unless_asked(verify, asked, tmp_path):
    hashed_up_to = []

    def describe(hash_up_to):
        hashed_up_to.append(hash_up_to)
        return {"raw": state(**({"blake2b": "s"} if hash_up_to else {}))}

    stamp = Stamp(tmp_path / "x.stamp.json", describe, verify)
    with stamp.renewed():
        assert hashed_up_to == asked[-1:]  # before the work, which may take hours
    assert stamp.differences() == []
    assert stamp.key
    assert sorted(hashed_up_to) == asked
    assert json.loads(stamp.path.read_text())["raw"]["blake2b"] == "s"


@pytest.mark.parametrize(("data", "changed"), [("s", []), ("t", ["raw.blake2b"])])
def test_of_copies_the_data_decide(data, changed, tmp_path, capsys):
    stamps = {}
    for name, now, digest in (("before", 5, "s"), ("after", 6, data)):

        def describe(hash_up_to, now=now, digest=digest):
            return {"a": 1, "raw": state(modified_ns=now, **({"blake2b": digest} if hash_up_to else {}))}

        stamps[name] = Stamp(tmp_path / "x.stamp.json", describe)
    stamps["before"].write()
    assert stamps["after"].differences() == changed
    assert stamps["after"].holds(tmp_path, "x") == (not changed)
    told = capsys.readouterr().out
    assert ("up to date" in told) if not changed else ("again, because of the data of raw\n" in told)
    assert json.loads(stamps["after"].path.read_text())["raw"]["modified_ns"] == (5 if changed else 6)


def test_where_settings_changed_too_no_data_are_read(tmp_path):
    Stamp(tmp_path / "x.stamp.json", lambda _: {"a": 1, "raw": state(blake2b="s")}).write()
    asked = []
    stamp = Stamp(tmp_path / "x.stamp.json", lambda most: asked.append(most) or {"a": 2, "raw": state(modified_ns=6)})
    assert stamp.differences() == ["a", "raw"]
    assert asked == [0]


def test_changes_are_told_in_the_users_words():
    changes = ["settings.training.steps", "volumes.a.raw.blake2b", "parts.b.affinities.made_at", "c", "d"]
    told = "training.steps, the data of volumes.a.raw, the data of parts.b.affinities, c and 1 more"
    assert shown(changes) == told


def test_a_stamp_is_gone_while_the_work_is_done_and_stays_away_if_it_fails(tmp_path):
    stamp = Stamp(tmp_path / "x.stamp.json", lambda _: {"a": 1})
    stamp.write()
    with suppress(KeyboardInterrupt), stamp.renewed():
        assert not stamp.path.exists()
        raise KeyboardInterrupt
    assert not stamp.path.exists()
    with stamp.renewed():
        assert not stamp.path.exists()
    assert stamp.differences() == []
