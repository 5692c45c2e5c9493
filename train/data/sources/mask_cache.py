"""Remember the values of masks, so that only new and changed masks are read when a run starts."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.data.sources.cache_files import cache_path, read_cached, write_cached
from train.data.sources.mask_files import MaskFacts, read_facts

__all__ = ["MaskCache"]

_VERSION = 1
"""Version of the format of the cache, raised with every change of it."""

_SETTLED_SECONDS = 3.0
"""Age from which the time of a file is trusted.

The clock of a file system can be this coarse: a file that was written a moment ago could be written
again without another time.
"""


class MaskCache:
    """The values of the masks in a folder, in a file in the user's cache directory.

    A mask is read again if its size or its time of modification has changed. The values do not
    depend on the classes. Several threads may read at the same time.

    Args:
        folder: Folder of the masks.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = cache_path("masks", folder, ".json")
        stored = read_cached(self._file)
        is_valid = isinstance(stored, dict) and stored.get("version") == _VERSION
        self._known: Mapping[str, list[Any]] = stored["masks"] if is_valid else {}
        self._current: dict[str, list[Any]] = {}

    def read(self, path: str) -> MaskFacts:
        """Return the values of a mask.

        Args:
            path: The mask, a file in the folder.

        Returns:
            Its facts, from the cache if the file has not changed.

        Raises:
            ValueError: If `read_facts` raises it.
            OSError: If the file may not be read.
        """
        name = os.path.relpath(path, self._folder)
        status = os.stat(path)
        key = [status.st_size, status.st_mtime_ns]
        stored = self._known.get(name)
        if stored is not None and stored[0] == key:
            self._current[name] = stored
            height, width, is_color, counts, colors = stored[1]
            return MaskFacts(height, width, is_color, dict(counts), dict(colors))
        is_settled = abs(time.time() - status.st_mtime) > _SETTLED_SECONDS
        facts = read_facts(path)
        if is_settled:
            counts, colors = [*facts.counts.items()], [*facts.colors.items()]
            self._current[name] = [key, [*facts[:3], counts, colors]]
        return facts

    def save(self) -> None:
        """Write the facts of all masks that were read. If that fails, nothing happens."""
        changed = any(self._known.get(name) is not entry for name, entry in self._current.items())
        if changed or len(self._current) < len(self._known):
            content = {"version": _VERSION, "folder": str(self._folder), "masks": self._current}
            write_cached(self._file, json.dumps(content))
