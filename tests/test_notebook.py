"""The notebook examples/explore.py, run as Jupyter runs it."""

import pytest
from conftest import HANG, ROOT


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Jupyter's own
def test_the_notebook_runs_from_top_to_bottom():
    import jupytext
    from nbclient import NotebookClient

    notebook = jupytext.read(ROOT / "examples" / "explore.py")
    NotebookClient(notebook, timeout=HANG, resources={"metadata": {"path": str(ROOT / "examples")}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    said = "".join(output.get("text", "") for cell in cells for output in cell.outputs)
    assert "cbam is better: +8.30 points" in said
    assert any(kind == "image/svg+xml" for cell in cells for out in cell.outputs for kind in out.get("data", ()))
