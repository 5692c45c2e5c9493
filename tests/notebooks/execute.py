"""Run notebooks and save their outputs: `python -m tests.notebooks.execute [NOTEBOOK ...]`.

Without arguments it runs all of them.
"""

import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CELL_SECONDS = 600
"""Limit of a cell, which ends a hang. A whole notebook takes two minutes on an idle machine."""


@contextmanager
def kernel_environment() -> Iterator[None]:
    """Set the environment of the kernels: this checkout, the CPU, and no settings of the user."""
    with tempfile.TemporaryDirectory() as folder:
        variables = {
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "",  # without the eight devices of pytest; a notebook sets its own
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "0",
            "IPYTHONDIR": folder,
            "JUPYTER_CONFIG_DIR": folder,
            "JUPYTER_RUNTIME_DIR": folder,
            "TFDS_DATA_DIR": folder,
            "JAX_COMPILATION_CACHE_DIR": folder,
            "TF_CPP_MIN_LOG_LEVEL": "3",  # XLA warns of slow compilation on a busy machine
        }
        with mock.patch.dict(os.environ, variables):
            yield


def execute(path: Path, replacements: Mapping[str, str] | None = None) -> nbformat.NotebookNode:
    """Run a notebook from top to bottom and return it; its file does not change.

    Args:
        path: The notebook.
        replacements: Strings in its code, and what to run instead.

    Raises:
        ValueError: A string to replace is not in the code.
        CellExecutionError: A cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        cell.outputs = []
    for old, new in (replacements or {}).items():
        if not any(old in cell.source for cell in code):
            raise ValueError(f"{path.name} has no code {old!r}.")
        for cell in code:
            cell.source = cell.source.replace(old, new)
    where = {"metadata": {"path": str(path.parent)}}
    with kernel_environment():
        NotebookClient(notebook, timeout=CELL_SECONDS, resources=where).execute()
    return notebook


def tidied(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the notebook without execution times, with the metadata that a viewer needs.

    Running a notebook again then changes only the outputs that differ.
    """
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    return notebook


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Return the outputs of a cell, with consecutive pieces of printed text joined."""
    kept: list[nbformat.NotebookNode] = []
    for output in outputs:
        if "metadata" in output:
            output.metadata = {}
        if kept and "name" in output and output.name == kept[-1].get("name"):
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def cpu_seconds() -> float:
    """Return the CPU time of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(paths: list[str]) -> None:
    """Run the notebooks at these paths, or all, and save them with their outputs."""
    for path in map(Path, paths) if paths else NOTEBOOKS:
        start, cpu_start = time.monotonic(), cpu_seconds()
        nbformat.write(tidied(execute(path)), path)
        seconds, cpu = time.monotonic() - start, cpu_seconds() - cpu_start
        print(f"{path.name}: {seconds:.0f} s, {cpu:.0f} s of CPU time")


if __name__ == "__main__":
    main(sys.argv[1:])
