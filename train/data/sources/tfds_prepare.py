"""Prepare TFDS datasets as ArrayRecord files, or give the commands that prepare them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex

import tensorflow_datasets as tfds

__all__ = [
    "FILE_FORMAT",
    "check_prepared",
    "preparation_command",
    "preparation_help",
    "prepare_dataset",
]

FILE_FORMAT = "array_record"
"""The file format that TFDS reads by position and without TensorFlow."""


def check_prepared(builder: tfds.core.DatasetBuilder, split: str, instructions: str) -> None:
    """Check that a prepared dataset has the right file format and all its files.

    Args:
        builder: Builder of the dataset.
        split: Split whose files are checked.
        instructions: Instructions for preparing the dataset, for the error message.

    Raises:
        FileNotFoundError: If the dataset has another file format, or files are missing.
        ValueError: If there is no such split.
    """
    directory = builder.data_path
    formats = sorted(file_format.value for file_format in builder.info.available_file_formats())
    if (directory / "dataset_info.json").exists() and FILE_FORMAT not in formats:
        raise FileNotFoundError(
            f"expected {FILE_FORMAT} files in {directory}, which was prepared as "
            f"{', '.join(formats)}. Only {FILE_FORMAT} can be read by position and without "
            f"TensorFlow. Move that directory away, or choose another data_dir, and prepare the "
            f"dataset again:\n{instructions}"
        )
    expected = [directory / "dataset_info.json"]
    if expected[0].exists():
        expected += builder.info.splits[split].filepaths
    missing = [os.fspath(path) for path in expected if not path.exists()]
    if missing:
        raise FileNotFoundError(
            f"dataset {builder.name!r} in {directory} is incomplete; missing: "
            f"{', '.join(missing)}. Probably it was copied only partly. Remove that directory, and "
            f"copy or prepare it again."
        )


def preparation_help(builder: tfds.core.DatasetBuilder) -> str:
    """Return instructions for preparing a dataset of TFDS, with its manual downloads.

    Args:
        builder: Builder of the dataset.

    Returns:
        Shell commands and a note, for an error message.
    """
    manual = " ".join((builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "").split())
    manual_dir = os.path.join(builder.data_dir_root, "downloads", "manual")
    note = "It downloads the dataset."
    if manual:
        note = f"First download files by hand. {manual_dir} is the manual_dir. {manual}"
    return preparation_command(builder.name, builder.data_dir_root, note)


def preparation_command(name: str, data_dir: str | os.PathLike[str], note: str) -> str:
    """Return the shell commands that prepare a dataset of TFDS, followed by a note.

    Args:
        name: Name of the dataset in TFDS.
        data_dir: Data directory of TFDS.
        note: A sentence about the preparation, such as the size of its download.

    Returns:
        Several lines, for an error message.
    """
    # TFDS 4.9.10 imports importlib_resources without requiring it.
    # A JSON string is also a Python string. Its double quotes are literal in a single-quoted shell
    # argument.
    code = (
        "import tensorflow_datasets as tfds; "
        f"tfds.builder({json.dumps(name)}, "
        f"data_dir={json.dumps(os.fspath(data_dir))}, "
        f"file_format={json.dumps(FILE_FORMAT)}).download_and_prepare()"
    )
    return (
        "    pip install tensorflow-datasets tensorflow-cpu importlib_resources\n"
        f"    python -c {shlex.quote(code)}\n"
        f"{note} Only this step needs TensorFlow. It can be done in another environment or on "
        "another machine."
    )


def prepare_dataset(builder: tfds.core.DatasetBuilder, quiet: bool = True) -> None:
    """Prepare a dataset whose builder is in this project and needs no TensorFlow.

    Several processes may do this at the same time.

    Args:
        builder: Builder of the dataset.
        quiet: Whether to hide TFDS's progress bars, which report a download.

    Raises:
        ImportError: If the builder needs TensorFlow or importlib_resources.
        OSError: If the files cannot be written.
    """
    # TFDS writes to `incomplete.<random>_<version>` and renames this directory at the end.
    # Therefore the files of an interrupted preparation are never read.
    try:
        with contextlib.ExitStack() as redirected:
            if quiet:
                silence = io.StringIO()
                redirected.enter_context(contextlib.redirect_stdout(silence))
                redirected.enter_context(contextlib.redirect_stderr(silence))
            builder.download_and_prepare(file_format=FILE_FORMAT)
    except ImportError as error:
        # TFDS raises it again, without the attribute `name`.
        found = re.search(r"No module named '(tensorflow|importlib_resources)'", str(error))
        if found is None:
            raise
        raise ImportError(
            f"the preparation of {builder.name!r} imports {found[1]}. To prepare the dataset "
            f"without it, its builder has to set `url_infos = None`, to give every example "
            f"another key, and to pass images as the PNG bytes of "
            f"aff_jax.images.image_files.encode_png and labels as integers; "
            f"train/data/sources/digits.py is an example. Otherwise install it."
        ) from error
    except OSError as error:
        # The rename fails if another process was faster. Its files are equal to these.
        if not builder.data_path.exists():
            error.add_note(
                f"The dataset {builder.name!r} was being prepared in {builder.data_dir_root}. Set "
                f"--config.data_dir to a directory that can be written."
            )
            raise
