import pytest

from ssns.files import replacing


def test_a_file_is_there_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.json"
    with replacing(path) as partial:
        partial.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_older_one_survives_what_goes_wrong(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_text("old")

    def write_half():
        with replacing(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_kill_has_left_is_no_hindrance(tmp_path):
    path = tmp_path / "a.json"
    (tmp_path / "a.json.partial").write_text("half of a longer text")
    with replacing(path) as partial:
        partial.write_text("whole")
    assert path.read_text() == "whole"
