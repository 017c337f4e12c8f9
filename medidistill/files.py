"""Files that are either whole or not there: write beside the target, flush to disk, rename.

A full disk or a refused permission becomes a `ResourceError` that names the path and the remedy;
the file that was there before stays as it was. torch is imported only where tensors are read or written, so that
commands that need neither start at once.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import secrets
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from medidistill.errors import IngestError, ResourceError
from medidistill.jsontypes import (  # any JSON; the header of a tensor file, whose keys its kind decides
    JsonObject,
    ReadOnlyJsonObject,
)

if TYPE_CHECKING:
    import torch

__all__ = [
    "close_folder",
    "load_tensors",
    "private_folder",
    "private_umask",
    "publish_folder",
    "read_checked_json",
    "read_json",
    "save_tensors",
    "sha256_file",
    "translate_os_errors",
    "write_bytes",
    "write_checked_json",
    "write_json",
    "write_text",
]

_AGAIN = "then give the command again (a run: with --resume)"
_REMEDY = {
    errno.ENOSPC: f"the disk is full; free space or choose a folder elsewhere, {_AGAIN}",
    errno.EDQUOT: f"the disk quota is used up; free space or choose a folder elsewhere, {_AGAIN}",
    errno.EROFS: "the file system is read-only; choose a folder elsewhere",
    errno.EACCES: "permission denied; check the owner and mode of the folder",
    errno.EPERM: "operation not permitted; check the owner and mode of the folder",
    errno.ENAMETOOLONG: "the path is too long for this file system; choose a shorter one",
}
_PRIVATE = 0o077  # what group and others would need
_umask_lock = threading.Lock()
_private_blocks = 0  # how many blocks of `private_umask` are open now, in all threads
_caller_umask: int | None = None  # the umask outside of them


@contextlib.contextmanager
def translate_os_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` while writing `path` into a `ResourceError` that says what to do."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDY.get(error.errno or 0, error.strerror or str(error))
        raise ResourceError(f"cannot write {path}: {remedy}") from error


@contextlib.contextmanager
def private_umask() -> Iterator[None]:
    """Let every file and folder that this process makes inside the block be readable by its owner alone.

    This holds for what libraries write as well: figures, tables, databases, caches. The umask belongs to the process,
    so other threads are bound by it too: the first block closes it and the last one that ends, of whatever thread,
    gives the caller's umask back. Blocks may be nested.
    """
    global _caller_umask, _private_blocks
    with _umask_lock:
        before = os.umask(_PRIVATE)
        if not _private_blocks:
            _caller_umask = before
        _private_blocks += 1
    try:
        yield
    finally:
        with _umask_lock:
            _private_blocks -= 1
            if not _private_blocks and _caller_umask is not None:
                os.umask(_caller_umask)
                _caller_umask = None


def private_folder(path: Path) -> Path:
    """Create `path` where it is absent, close it to everybody but its owner (mode 0700), and return it.

    Raises:
        ResourceError: it cannot be made, or the file system does not keep its mode.
    """
    with translate_os_errors(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_IMODE(path.stat().st_mode) & _PRIVATE:
            path.chmod(0o700)
        mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _PRIVATE:
        raise ResourceError(
            f"{path}: others can read it (mode {mode:04o}) and the file system does not let that be changed; "
            "patients' data need a folder that only you can read: choose one elsewhere"
        )
    return path


def close_folder(path: Path, *, but: Path | None = None) -> None:
    """Close a folder and all that it holds to everybody but its owner: folders 0700, files 0600. Links stay.

    Args:
        path: the folder.
        but: a folder directly below it whose content stays as it is.

    Raises:
        ResourceError: a mode cannot be changed.
    """
    private_folder(path)
    for here, folders, files in os.walk(path):
        if but is not None and Path(here) == path:
            folders[:] = [name for name in folders if name != but.name]
        for names, closed in ((folders, 0o700), (files, 0o600)):
            for name in names:
                one = Path(here, name)
                with translate_os_errors(one):
                    mode = one.lstat().st_mode
                    if stat.S_IMODE(mode) & _PRIVATE and not stat.S_ISLNK(mode):
                        one.chmod(closed)


def publish_folder(path: Path) -> None:
    """Give a folder and its content the modes that the user's umask asks for, also inside `private_umask`.

    With the umask 022 they are readable by everybody (0755, 0644), with 077 by the owner alone.
    """
    with _umask_lock:
        umask = _caller_umask
        if umask is None:
            umask = os.umask(_PRIVATE)
            os.umask(umask)
    for one in (path, *path.rglob("*")):
        if not one.is_symlink():
            one.chmod((0o755 if one.is_dir() else 0o644) & ~umask)


@contextlib.contextmanager
def _replaced(path: Path, mode: int | None) -> Iterator[BinaryIO]:
    """Yield an empty file that takes the place of `path`, flushed to disk, once the block has filled it."""
    with translate_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        name = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666 if mode is None else 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


def write_bytes(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Replace `path` by `data` atomically; create its folder.

    Args:
        path: the file.
        data: its content.
        mode: its permissions whatever the umask; None: as the umask says.

    Raises:
        ResourceError: it cannot be written; what was there before stays.
    """
    with _replaced(Path(path), mode) as file:
        file.write(data)


def write_text(path: Path, text: str, *, mode: int | None = None) -> None:
    """Replace `path` by UTF-8 `text` atomically."""
    write_bytes(path, text.encode("utf-8"), mode=mode)


def write_json(path: Path, value: Any, *, mode: int | None = None) -> None:
    """Replace `path` by `value` as indented, key-sorted JSON, atomically. NaN is refused."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", mode=mode)


def read_json(path: Path) -> Any:
    """Read JSON; raises `IngestError` naming the file when it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise IngestError(f"{path}: no such file") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, a number or a nesting without end
        raise IngestError(f"{path}: not valid JSON ({error})") from error


def write_checked_json(path: Path, value: ReadOnlyJsonObject, *, mode: int | None = None) -> None:
    """Write a mapping as `write_json` does, but in its own order, with a digest of its content under ``sha256``."""
    signed = {**value, "sha256": _json_digest(value)}
    write_text(path, json.dumps(signed, indent=2, allow_nan=False) + "\n", mode=mode)


def read_checked_json(path: Path) -> Any:
    """Read what `write_checked_json` wrote, without the digest; a file that never had one is read as it is.

    Raises:
        IngestError: the file is missing, damaged, or not what was written.
    """
    value = read_json(path)
    if isinstance(value, dict) and value.pop("sha256", None) not in (None, _json_digest(value)):
        raise IngestError(
            f"{path}: damaged: its content is not what was written (checksum differs); restore it from a backup, or "
            "start again in another --output"
        )
    return value


def _json_digest(value: ReadOnlyJsonObject) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], header: ReadOnlyJsonObject, *, mode: int | None = None
) -> None:
    """Write tensors and a JSON header as one safetensors file, atomically; same input, same bytes.

    The header travels in the file's metadata under the key ``medidistill``. Its entry ``sha256``, added here, is a
    digest of header and tensors that `load_tensors` compares.
    """
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    signed = {**header, "sha256": _content_digest(header, ready)}
    # one key alone: safetensors writes several in an order that changes from process to process
    text = json.dumps(signed, sort_keys=True, allow_nan=False)
    kinds = _safetensors_names()
    place = {kind: number for number, kind in enumerate(kinds)}
    order = sorted(ready, key=lambda name: (place[ready[name].dtype], name))  # as the library does
    entries: JsonObject = {"__metadata__": {"medidistill": text}}
    end = 0
    for name in order:
        start, end = end, end + ready[name].nbytes
        entries[name] = {
            "dtype": kinds[ready[name].dtype],
            "shape": list(ready[name].shape),
            "data_offsets": [start, end],
        }
    first = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    first += b" " * (-len(first) % 8)
    with _replaced(Path(path), mode) as file:
        file.write(len(first).to_bytes(8, "little") + first)
        for name in order:  # from where they lie: the library would copy all of them into one string of bytes
            file.write(_bytes_of(ready[name]))


def _content_digest(header: ReadOnlyJsonObject, tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of a header and the names, types, shapes and bytes of tensors."""
    plain = {name: value for name, value in header.items() if name != "sha256"}
    total = hashlib.sha256(json.dumps(plain, sort_keys=True, allow_nan=False).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"\x1f{name}\x1f{tensor.dtype}\x1f{tuple(tensor.shape)}\x1f".encode())
        total.update(_bytes_of(tensor))
    return total.hexdigest()


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a contiguous tensor, without a copy."""
    import torch

    return tensor.reshape(-1).view(torch.uint8).numpy().data


@functools.cache
def _safetensors_names() -> Mapping[torch.dtype, str]:
    """Return what the safetensors format calls each type of element, in the order in which the library writes them."""
    import torch

    return {
        torch.int64: "I64",
        torch.float64: "F64",
        torch.float32: "F32",
        torch.int32: "I32",
        torch.bfloat16: "BF16",
        torch.float16: "F16",
        torch.int16: "I16",
        torch.int8: "I8",
        torch.uint8: "U8",
        torch.bool: "BOOL",
    }


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], JsonObject]:
    """Read what `save_tensors` wrote: `(tensors, header)`. Never unpickles.

    A file of an earlier version, without a digest, is read as it is.

    Raises:
        IngestError: the file is missing, damaged, carries no medidistill header, or is not what was written.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise IngestError(f"{path}: no such file")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header: Any = json.loads(metadata["medidistill"])
    except KeyError as error:
        raise IngestError(f"{path}: safetensors file without a medidistill header") from error
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise IngestError(
            f"{path}: damaged safetensors file ({error}); delete it and run again with --resume"
        ) from error
    if not isinstance(header, dict):
        raise IngestError(f"{path}: damaged safetensors file (its header is no mapping); delete it and run again")
    if header.pop("sha256", None) not in (None, _content_digest(header, tensors)):
        raise IngestError(
            f"{path}: damaged: its content is not what was written (checksum differs); delete it and run again "
            "with --resume"
        )
    return tensors, header
