"""Write scalars for TensorBoard."""

import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

__all__ = ["ScalarWriter"]


class ScalarWriter:
    """Event file with scalars, a new one for each start of a run.

    Args:
        directory: Directory of the event files. It is created if it does not exist.
        purge_step: TensorBoard hides the values of earlier starts from this step on.

    Raises:
        OSError: The file could not be written.
    """

    # tensorboardX's SummaryWriter writes in a thread. An error, such as a full disk, ends the
    # thread, and then the run waits forever for its queue. TensorBoard's own writer had the same
    # defect: https://github.com/tensorflow/tensorboard/issues/6167

    def __init__(self, directory: Path, *, purge_step: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        # Without the suffix, two starts within a second would write the same file.
        self._events = EventsWriter(str(directory / "events"), f".{time.time_ns()}")
        self._write(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def add(self, name: str, value: float, step: int) -> None:
        """Add one value. It is on disk after `flush`."""
        self._write(Event(step=step, summary=scalar(name, value)))

    def flush(self) -> None:
        """Write the added values to disk."""
        self._events.flush()

    def close(self) -> None:
        """Write the added values to disk, and close the file."""
        self._events.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._events.write_event(event)
