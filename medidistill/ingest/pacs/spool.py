"""The folder that objects arrive in: whole or not at all, closed to others, named without a patient's name."""

from __future__ import annotations

import hashlib
import shutil
import threading
from pathlib import Path

from medidistill.errors import ConfigError, ResourceError
from medidistill.files import translate_os_errors, write_bytes

__all__ = ["Spool", "object_name"]

_RESERVE = 1 << 28  # bytes that stay free: a full disk would stop more than this program


def object_name(uid: str) -> str:
    """Return the name of the file of an object: a hash of its SOP Instance UID."""
    return hashlib.sha256(uid.encode()).hexdigest()[:32]


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

    def add(self, uid: str, data: bytes, sender: int = 0) -> Path:
        """Write one DICOM file; returns its path. Raises `ResourceError`."""
        self.check_room(len(data))
        path = self.folder / f"{object_name(uid)}.dcm"
        write_bytes(path, data, mode=0o600)
        self.counted()
        return path

    def closed(self, sender: int) -> None:
        """Take note that an association has ended; this spool keeps none apart."""

    def check_room(self, size: int) -> None:
        """Raise `ResourceError` where an object of `size` bytes would fill the disk."""
        if shutil.disk_usage(self.folder).free < _RESERVE + size:
            raise ResourceError(f"cannot write {self.folder}: the disk is nearly full; free space and send again")

    def counted(self) -> None:
        """Count one object that was written."""
        with self._lock:
            self.count += 1
