"""The checkpoints in the directory of a run."""

from train.checkpoints.manager import Checkpoints
from train.setup import make_run


def restore(workdir, config):
    """Return the last checkpoint of a run."""
    run = make_run(config)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        return checkpoints.restore(run.state)


def damage(checkpoint):
    """Cut all files of a checkpoint in half."""
    for file in checkpoint.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
