"""The folder that objects arrive in: whole or not at all, closed to others, named without a patient's name."""

from __future__ import annotations

import hashlib
import shutil
import threading
from pathlib import Path

from medidistill.errors import ConfigError, ResourceError
from medidistill.files import translate_os_errors, write_bytes

__all__ = ["Spool"]

_RESERVE = 1 << 28  # bytes that stay free: a full disk would stop more than this program


class Spool:
    """Takes objects into a folder of mode 0700, one file of mode 0600 each.

    A file appears by renaming, so that a reader never sees half of one. Its name is a hash of the SOP Instance
    UID: the same object sent twice is one file.

    Args:
        folder: made where it is absent.

    Raises:
        ConfigError: it is a file.
        ResourceError: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigError(f"{folder}: is a file; name a folder")
        with translate_os_errors(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
        self.count = 0
        self._lock = threading.Lock()  # each association has its thread

    def add(self, uid: str, data: bytes) -> Path:
        """Write one DICOM file; returns its path. Raises `ResourceError`."""
        if shutil.disk_usage(self.folder).free < _RESERVE + len(data):
            raise ResourceError(f"cannot write {self.folder}: the disk is nearly full; free space and send again")
        path = self.folder / (hashlib.sha256(uid.encode()).hexdigest()[:32] + ".dcm")
        write_bytes(path, data, mode=0o600)
        with self._lock:
            self.count += 1
        return path
