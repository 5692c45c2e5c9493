"""Scalars are events of TensorBoard."""

from pathlib import Path

from tensorboardX.proto import event_pb2

from tests.train.reporting.event_files import read_events
from train.reporting.tensorboard import ScalarWriter


def test_the_file_has_the_version_the_start_and_the_scalars(tmp_path: Path) -> None:
    writer = ScalarWriter(tmp_path / "new" / "tensorboard", purge_step=4)
    writer.add("train/loss", 0.5, 4)
    writer.flush()
    assert len(read_events(tmp_path / "new" / "tensorboard")) == 3
    writer.add("eval/loss", 0.25, 6)
    writer.close()
    version, start, *scalars = read_events(tmp_path / "new" / "tensorboard")
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (4, event_pb2.SessionLog.START)
    values = [(x.step, x.summary.value[0].tag, x.summary.value[0].simple_value) for x in scalars]
    assert values == [(4, "train/loss", 0.5), (6, "eval/loss", 0.25)]
    assert version.wall_time <= scalars[-1].wall_time
