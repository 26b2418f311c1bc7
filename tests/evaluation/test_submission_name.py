import json
import zipfile

import pytest
from mmengine.config import Config

from custom.errors import InputError
from custom.evaluation.submission import write_submission


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ("cell/maskrcnn_r50.py", "test-results.json"),
        ("cell/maskrcnn_r50_nuclei2021.py", "answer.json"),
    ],
)
def test_each_task_has_its_file_name(config, name, repo, tmp_path):
    cfg = Config.fromfile(repo / "configs" / config)
    assert cfg.submission_evaluator == {"type": "Submission", "file_name": name}
    entries = [{"image_id": 1}]
    path = write_submission(entries, tmp_path, cfg.submission_evaluator.file_name)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [name]
        assert json.loads(archive.read(name)) == entries
    assert json.loads((tmp_path / name).read_text()) == entries
    with pytest.raises(InputError, match="exists already"):
        write_submission([], tmp_path, name)
    assert json.loads((tmp_path / name).read_text()) == entries
