"""Runs notebooks anew: `python -m tests.notebooks.execute [NOTEBOOK ...]`, by default all."""

import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import nbformat
from nbmake.nb_run import NotebookRun

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CELL_SECONDS = 600
"""A cell that takes longer hangs: a whole notebook takes two minutes, where nothing else runs."""


@contextmanager
def surroundings() -> Iterator[None]:
    """The environment of the kernels: this checkout, one CPU device, and nothing of the user's."""
    with tempfile.TemporaryDirectory() as folder:
        variables = {
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "",  # pytest's eight devices; a notebook asks for its own
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "0",
            "IPYTHONDIR": folder,
            "JUPYTER_CONFIG_DIR": folder,
            "JUPYTER_RUNTIME_DIR": folder,
            "TFDS_DATA_DIR": folder,
            "JAX_COMPILATION_CACHE_DIR": folder,
            "TF_CPP_MIN_LOG_LEVEL": "3",  # on a busy machine XLA complains of slow compilation
        }
        with mock.patch.dict(os.environ, variables):
            yield


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook as it is after running from top to bottom; its file stays as it is.

    Raises:
        RuntimeError: a cell failed; the message is its source and its traceback.
    """
    with surroundings():
        result = NotebookRun(path, CELL_SECONDS).execute()
    if result.error is not None:
        raise RuntimeError(f"{path.name}: {result.error.trace}")
    return result.nb


def tidied(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """With no times and no other metadata than a viewer needs, and printed text in one piece.

    So running it again changes no more of the file than has changed.
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
    """A cell's outputs, where text that came in several pieces is one."""
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
    """What processes that were started here, and have ended, have taken of one core."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(paths: list[str]) -> None:
    """Run those, or all, and write them with their outputs."""
    for path in map(Path, paths) if paths else NOTEBOOKS:
        start, cpu_start = time.monotonic(), cpu_seconds()
        nbformat.write(tidied(execute(path)), path)
        seconds, cpu = time.monotonic() - start, cpu_seconds() - cpu_start
        print(f"{path.name}: {seconds:.0f} s, {cpu:.0f} s of one core")


if __name__ == "__main__":
    main(sys.argv[1:])
