import pytest

from custom.io.whole_file import whole_file


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "figures.json"
    with whole_file(path) as part:
        part.write_text("{}")
        assert part.suffix == ".json" and not path.exists()
    assert path.read_text() == "{}" and list(path.parent.iterdir()) == [path]


def test_an_interrupted_block_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as part:
        part.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
