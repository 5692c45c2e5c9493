"""Train a run for longer, with other values of the fields that its state does not depend on."""

import json
import shutil
from pathlib import Path

from ml_collections import ConfigDict

from train.reporting.config_file import (
    CONFIG_FILE,
    RESUMABLE_FIELDS,
    differing_fields,
    read_config,
)
from train.reporting.workdir import SUMMARY_FILE
from train.runtime.distributed import gather_from_processes, is_primary_process
from train.runtime.writing import write_atomically

__all__ = ["EXTENDABLE_FIELDS", "extend_workdir"]

EXTENDABLE_FIELDS = frozenset(
    {
        "autoaugment",
        "class_weights",
        "color_jitter",
        "crop_padding",
        "cutmix_alpha",
        "decay_epochs",
        "decay_factor",
        "epochs",
        "eval_every_epochs",
        "flip",
        "label_smoothing",
        "learning_rate",
        "loss",
        "mix_off_epochs",
        "mixup_alpha",
        "pca_lighting",
        "random_erasing",
        "schedule",
        "warmup_epochs",
    }
)
"""Config fields that do not change the arrays of a checkpoint or the order of the examples."""


def extend_workdir(workdir: Path, config: ConfigDict, step: int, total_steps: int) -> bool:
    """Give a workdir a config that trains its run for longer, from its last checkpoint.

    The old config.json and summary.json are kept with the step in their names, as
    `config_until_1350.json`. All processes call this function while the workdir is locked.

    Args:
        workdir: Directory of the run.
        config: The new config.
        step: Step of its last checkpoint; 0 if there is none.
        total_steps: Number of steps of the whole run with the new config.

    Returns:
        Whether the config differs from the one that the workdir had.

    Raises:
        FileNotFoundError: If there is no run in the workdir.
        ValueError: If the config differs in other fields than `EXTENDABLE_FIELDS`; or no steps are
            left with it. Nothing is written.
    """
    different = differing_fields(read_config(workdir).to_dict(), config.to_dict())
    refused = [
        line
        for name, line in different.items()
        if name.split(".")[0] not in EXTENDABLE_FIELDS | RESUMABLE_FIELDS
    ]
    if refused:
        raise ValueError(
            f"the run in {workdir} cannot be extended with other values of these fields:\n"
            + "\n".join(refused)
            + "\nSet them to the values of the workdir. To train another network, or with another "
            f"batch size, from these weights, write them to a file and set --config.init_from to "
            f"it:\n  python -m train.save_model --workdir={workdir} --output=FILE.safetensors\n"
            "If one side has no such field, another version of this program started the run: use "
            "that version."
        )
    if not different:
        return False
    if step >= total_steps:
        raise ValueError(
            f"expected more steps than the {step} that the run in {workdir} has, got {total_steps} "
            f"with epochs={config.epochs:g}. --config.epochs counts from the start of the run; set "
            f"a larger number."
        )
    gather_from_processes(None)  # wait until all processes have read the old config
    if is_primary_process():
        for name in (CONFIG_FILE, SUMMARY_FILE):
            path = workdir / name
            kept = path.with_name(f"{path.stem}_until_{step}.json")
            if path.exists() and not kept.exists():
                shutil.copy2(path, kept)
        text = json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"
        write_atomically(workdir / CONFIG_FILE, text)
        (workdir / SUMMARY_FILE).unlink(missing_ok=True)  # it was copied above
    gather_from_processes(None)
    return True
