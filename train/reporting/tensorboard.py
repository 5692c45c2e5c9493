"""Scalars for TensorBoard, written at once: an error of the disk is raised where it belongs.

tensorboardX's own SummaryWriter writes in a thread; on a full disk that thread dies, and the run
waits for it for ever.
"""

import socket
import time
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

__all__ = ["ScalarWriter"]


class ScalarWriter:
    """An event file of its own in `directory` for each start of a run.

    TensorBoard hides what an earlier start wrote from step `purge_step` on.

    Raises:
        OSError: it could not be written.
    """

    def __init__(self, directory: Path, *, purge_step: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        self._records = RecordWriter(str(directory / name))
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def add(self, name: str, value: float, step: int) -> None:
        """One number; on disk after `flush`."""
        self._write(Event(step=step, summary=scalar(name, value)))

    def flush(self) -> None:
        """Bring to disk what was added."""
        self._records.flush()

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._records.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
