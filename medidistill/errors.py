"""One family of errors; each class knows the exit code its message ends a process with.

| code | class | meaning |
|---|---|---|
| 2 | `ConfigError` (a `ValueError`) | a setting or argument is wrong |
| 2 | `ArgumentError`, `ArgumentTypeError` | an argument of the Python library is wrong; value, or type |
| 2 | `MissingExtraError` (an `ImportError`) | a package of an extra is not installed |
| 3 | `IngestError` | the input data are missing, unreadable or inconsistent |
| 4 | `PrivacyGateError` | the export was refused by policy |
| 5 | `ResourceError` | disk, memory or permission |
| 6 | `QuarantineError` | more files were set aside than the limit allows |
| 7 | `DivergedError` | the optimisation left the finite numbers and could not recover |
| 130, 143 | `StoppedError` | stopped by a signal; the run can be resumed |

A message says what is wrong, where, the allowed range and what to do, in one line.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable, Sequence

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "ConfigError",
    "DivergedError",
    "IngestError",
    "MedidistillError",
    "MissingExtraError",
    "PrivacyGateError",
    "QuarantineError",
    "ResourceError",
    "StoppedError",
    "as_known",
    "did_you_mean",
    "one_line",
]


def one_line(name: str) -> str:
    r"""Return a name as text of one line that every file and terminal takes.

    Bytes that are not UTF-8 and control characters are written as escapes (``M\xfcller``, ``a\nb``).
    """
    try:
        told = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character that does not come from a name of a file
        told = name
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in told)


class MedidistillError(Exception):
    """Base of every error that medidistill raises on purpose.

    Args:
        message: one line that anybody may read; it names no file of the input and no patient.
        private: what may name one, a line each. Commands write it into a file that its owner alone can read, never on
            stderr: the output of a night's run is mailed and kept by others.
    """

    exit_code: int = 1
    quiet: bool = False  # another process of the same command prints it

    def __init__(self, message: str = "", *, private: Iterable[str] = ()) -> None:
        super().__init__(_sentence(message))
        self.private = tuple(map(_sentence, private))


def _sentence(text: str) -> str:
    """Return a message that any file takes: libraries break lines, and names hold bytes that are no characters."""
    return one_line(re.sub(r"[\t\n\v\f\r]+", " ", text))


class ConfigError(MedidistillError, ValueError):
    """A setting, an argument or an output folder is not usable as given."""

    exit_code = 2


class ArgumentError(ConfigError):
    """An argument of the Python library has a value that cannot be used.

    Args:
        name: of the argument.
        value: what was given, as the message shows it.
        allowed: what may be given, without a full stop.
        remedy: what to do, where `allowed` does not say it.
    """

    def __init__(self, name: str, value: object, allowed: str, remedy: str = "") -> None:
        self.name, self.value, self.allowed, self.remedy = name, value, allowed, remedy
        super().__init__(f"{name}={value}: must be {allowed}{remedy and '; ' + remedy}")

    def __reduce__(self) -> tuple[type[ArgumentError], tuple[str, object, str, str]]:
        return type(self), (self.name, self.value, self.allowed, self.remedy)


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument of the Python library is of a type that cannot be used; a `TypeError` and a `ValueError`.

    Args:
        name: of the argument.
        value: what was given, as the message shows it.
        allowed: what may be given, without a full stop.
        remedy: what to do, where `allowed` does not say it.
    """


class MissingExtraError(ConfigError, ImportError):
    """Packages that this part of medidistill needs are not installed.

    Args:
        extra: that installs them.
        what: what needs them.
        packages: the missing ones, by the name under which they are installed.
        module: the first of them that could not be imported, kept as `ImportError.name`.
    """

    def __init__(self, extra: str, what: str, packages: Sequence[str], module: str) -> None:
        self.extra, self.what, self.packages = extra, what, tuple(packages)
        super().__init__(f"{what} needs {', '.join(packages)}: pip install 'medidistill[{extra}]'")
        self.name = module

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str, tuple[str, ...], str]]:
        return type(self), (self.extra, self.what, self.packages, self.name or "")


class IngestError(MedidistillError):
    """The input data are missing, unreadable or contradict themselves."""

    exit_code = 3


class PrivacyGateError(MedidistillError):
    """A rule of the privacy policy refused the export."""

    exit_code = 4


class ResourceError(MedidistillError):
    """Disk, memory or permissions do not allow the work."""

    exit_code = 5


class QuarantineError(MedidistillError):
    """More of the input was quarantined than the configured share."""

    exit_code = 6


class DivergedError(MedidistillError):
    """The optimisation produced non-finite values and ran out of roll-backs."""

    exit_code = 7


class StoppedError(MedidistillError):
    """A signal asked the process to stop; completed work is on disk.

    Args:
        message: what was stopped and how to continue.
        signal_number: 2 (SIGINT) or 15 (SIGTERM); the exit code is 128 + this number.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def as_known(error: BaseException) -> MedidistillError | None:
    """Return the error of ours that `error` stands for, or None for a defect."""
    if isinstance(error, MedidistillError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return StoppedError("stopped by SIGINT", 2)
    if isinstance(error, OSError) and error.errno is not None:
        remedy = (
            "; free space or choose a folder elsewhere, then give the command again" if error.errno in _FULL else ""
        )
        return ResourceError(f"{error.filename or 'file system'}: {error.strerror or error}{remedy}")
    out_of_memory = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    if isinstance(error, MemoryError) or out_of_memory:
        return ResourceError("out of memory; lower ingest.image_size, network.width or the batch sizes")
    if "does not have a deterministic implementation" in str(error):
        return ConfigError(
            f"deterministic=true: {str(error).split()[0]} cannot repeat itself here; use device=cpu, leave out shift, "
            "scale, rotate and flip of the augmentation, or set deterministic=false"
        )
    return None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest known name, or an empty string."""
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""
