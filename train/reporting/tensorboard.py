"""Write scalars for TensorBoard."""

import socket
import time
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

__all__ = ["ScalarWriter"]


class ScalarWriter:
    """Event file with scalars, a new one for each start of a run.

    Args:
        directory: Directory of the event files. It is created if it does not exist.
        purge_step: TensorBoard hides the values of earlier starts from this step on.

    Raises:
        OSError: If the file could not be written.
    """

    # tensorboardX's SummaryWriter writes in a thread. An error, such as a full disk, ends the
    # thread, and then the run waits forever for its queue. TensorBoard's own writer had the same
    # defect: https://github.com/tensorflow/tensorboard/issues/6167

    def __init__(self, directory: Path, *, purge_step: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        self._records = RecordWriter(str(directory / name))
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def add(self, name: str, value: float, step: int) -> None:
        """Add one value. It is on disk after `flush`.

        Args:
            name: Name of the plot.
            value: The value.
            step: Step to which it belongs.
        """
        self._write(Event(step=step, summary=scalar(name, value)))

    def flush(self) -> None:
        """Write the added values to disk."""
        self._records.flush()

    def close(self) -> None:
        """Write the added values to disk, and close the file, even after an error."""
        self._records.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
