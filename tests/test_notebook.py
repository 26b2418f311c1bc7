"""The notebook in docs/ runs from top to bottom."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

from tests.small_run import write_run

NOTEBOOK = "docs/segmenter.ipynb"


@pytest.fixture(scope="module")
def notebook(repo):
    return nbformat.read(repo / NOTEBOOK, as_version=4)


def test_the_notebook_is_kept_without_outputs(notebook):
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


@pytest.mark.slow
def test_the_notebook_runs(repo, notebook, tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", repo)
    monkeypatch.setenv("MMCELL_MODEL", str(run))
    monkeypatch.delenv("MMCELL_IMAGE", raising=False)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(repo / "docs")}},
    )
    client.execute()
    outputs = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
    texts = [output.data["text/plain"] for output in outputs if "data" in output]
    assert any(text.startswith("Segmentation(") for text in texts)
    assert any("cells.csv" in text for text in texts)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    assert any("text/html" in output.get("data", {}) for output in outputs)
