"""Read the event files of TensorBoard."""

import struct
from pathlib import Path
from typing import Any

from tensorboardX.proto import event_pb2


def read_events(directory: Path) -> list[Any]:
    """Return the events of the only file of a directory."""
    (path,) = directory.iterdir()
    events = []
    data = path.read_bytes()
    while data:  # length, its checksum, the event, its checksum
        (length,) = struct.unpack("<Q", data[:8])
        events.append(event_pb2.Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return events
