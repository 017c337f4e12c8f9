"""Files that are either whole or not there: write beside the target, flush to disk, rename.

A full disk or a refused permission becomes a `ResourceError` that names the path and the remedy;
the file that was there before stays as it was.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_save

from medidistill.errors import IngestError, ResourceError

__all__ = [
    "load_tensors",
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

_REMEDY = {
    errno.ENOSPC: "the disk is full; free space or choose another --output, then run again with --resume",
    errno.EDQUOT: "the disk quota is used up; free space or choose another --output, then run again with --resume",
    errno.EROFS: "the file system is read-only; choose another --output",
    errno.EACCES: "permission denied; check the owner and mode of the folder",
    errno.EPERM: "operation not permitted; check the owner and mode of the folder",
    errno.ENAMETOOLONG: "the path is too long for this file system; choose a shorter --output",
}


@contextlib.contextmanager
def translate_os_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` while writing `path` into a `ResourceError` that says what to do."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDY.get(error.errno or 0, error.strerror or str(error))
        raise ResourceError(f"cannot write {path}: {remedy}") from error


def write_bytes(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace `path` by `data` atomically; create its folder. Raises `ResourceError`."""
    path = Path(path)
    with translate_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, mode)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


def write_text(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace `path` by UTF-8 `text` atomically."""
    write_bytes(path, text.encode("utf-8"), mode=mode)


def write_json(path: Path, value: Any, *, mode: int = 0o644) -> None:
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


def write_checked_json(path: Path, value: Mapping[str, Any], *, mode: int = 0o644) -> None:
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


def _json_digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any], *, mode: int = 0o644
) -> None:
    """Write tensors and a JSON header as one safetensors file, atomically; same input, same bytes.

    The header travels in the file's metadata under the key ``medidistill``. Its entry ``sha256``, added here, is a
    digest of header and tensors that `load_tensors` compares.
    """
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    signed = {**header, "sha256": _content_digest(header, ready)}
    # one key alone: safetensors writes several in an order that changes from process to process
    text = json.dumps(signed, sort_keys=True, allow_nan=False)
    write_bytes(path, safetensors_save(ready, metadata={"medidistill": text}), mode=mode)


def _content_digest(header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of a header and the names, types, shapes and bytes of tensors."""
    plain = {name: value for name, value in header.items() if name != "sha256"}
    total = hashlib.sha256(json.dumps(plain, sort_keys=True, allow_nan=False).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"\x1f{name}\x1f{tensor.dtype}\x1f{tuple(tensor.shape)}\x1f".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote: `(tensors, header)`. Never unpickles.

    A file of an earlier version, without a digest, is read as it is.

    Raises:
        IngestError: the file is missing, damaged, carries no medidistill header, or is not what was written.
    """
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
