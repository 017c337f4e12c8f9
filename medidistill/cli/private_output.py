"""What commands that read patients' data say: one line for everybody, names of files and patients in a private file.

stderr ends up in cron mail, in the journal of systemd and in logs of schedulers. So an error is shown without such
names, libraries' messages are not shown at all, and both are kept in full in a file of mode 0600 that stderr points to.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medidistill.errors import MedidistillError, as_known

if TYPE_CHECKING:
    from medidistill.pipeline.runfolder.run_folder import RunFolder

__all__ = ["IN_RUN", "Private", "beside", "fail", "keep_library_messages", "private_file"]

_MOST_MESSAGES = 10_000
_SOURCES = ("input", "test", "evaluate", "labels", "accessions", "inbox")  # arguments that name patients' data


@dataclass(frozen=True)
class Private:
    """What a command that reads patients' data keeps to its user; its parser names one by `set_defaults(private=...)`.

    Args:
        place: arguments -> the file for errors in full.
        sources: arguments -> folders and files of patients' data, beside those that its options name.
    """

    place: Callable[[Namespace], Path]
    sources: Callable[[Namespace], list[Path]] = lambda _: []


def beside(argument: str, *, read: bool = False) -> Private:
    """Return what keeps errors beside what a command writes.

    Args:
        argument: that names what is written.
        read: patients' data lie there too.
    """
    return Private(
        lambda arguments: _beside(getattr(arguments, argument)),
        (lambda arguments: [getattr(arguments, argument)]) if read else (lambda _: []),
    )


def _in_run(arguments: Namespace) -> Path:
    """Return the file in the run folder among the patients' images, else beside the folder."""
    from medidistill.pipeline.runfolder.redaction import DETAILS

    run = _run_of(arguments)
    return run.ingest / DETAILS if run.holds_run() else _beside(run.path)


def _sources_of_run(arguments: Namespace) -> list[Path]:
    run = _run_of(arguments)
    if not run.holds_run():
        return []
    from medidistill.pipeline.config_io.config_file import load_config

    found = [run.ingest / "unpacked"]
    with contextlib.suppress(MedidistillError, OSError, KeyError, TypeError):
        noted = run.noted_source()
        found += [noted] if noted is not None else []
    with contextlib.suppress(MedidistillError):
        external = load_config(run.config_file).evaluate.external
        found += [Path(external)] if external else []
    return found


def _run_of(arguments: Namespace) -> RunFolder:
    from medidistill.pipeline.runfolder.run_folder import RunFolder

    path = getattr(arguments, "run", None) or arguments.output
    return RunFolder(path / "run" if arguments.command == "demo" else path)


IN_RUN = Private(_in_run, _sources_of_run)


def private_file(arguments: Namespace) -> Path | None:
    """Return the file for what a command keeps to its user; None for commands that read no patients' data."""
    private: Private | None = getattr(arguments, "private", None)
    return None if private is None else private.place(arguments)


def _beside(path: Path | None) -> Path:
    return path.with_name(f"{path.name}.error.txt") if path is not None and path.name else Path("medidistill.error.txt")


def fail(error: BaseException, arguments: Namespace, typed: Sequence[str]) -> int:
    """Print why a command failed and return its exit code.

    Args:
        error: what ended it.
        arguments: of the command.
        typed: the command line as it was written.
    """
    known, place = as_known(error), private_file(arguments)
    if known is not None and known.quiet:
        return known.exit_code
    if arguments.debug:
        _print_frames(error, whole=place is None)
    if place is None:
        if known is None:
            text = f"internal error: {type(error).__name__}: {error} (--debug shows where; please report it)"
            return _print(text, MedidistillError.exit_code)
        return _print(" ".join([str(known), *known.private]), known.exit_code)
    from medidistill.pipeline.runfolder.withholding import make_public

    public = make_public(error, _sources(arguments), typed)
    kept = ""
    if public.details:
        kept = f"; {_counted(public.withheld, 'detail')} that may name files or patients{_keep(place, public.details)}"
    return _print(public.line + kept, public.exit_code)


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}{'' if count == 1 else 's'}"


def _keep(place: Path, text: str) -> str:
    """Write what others must not read; return where it is, for the end of a line that they may read."""
    from medidistill.files import private_umask, write_text

    try:
        with private_umask():
            write_text(place, text, mode=0o600)
    except MedidistillError as error:
        return f" could not be kept: {error}"
    return f": see {place}"


def _sources(arguments: Namespace) -> list[Path]:
    """Return the files and folders of patients' data that a command reads."""
    named = [getattr(arguments, name, None) for name in _SOURCES]
    found = [Path(one) for one in named if isinstance(one, str | Path)]
    private: Private | None = getattr(arguments, "private", None)
    return found if private is None else [*found, *private.sources(arguments)]


def _print_frames(error: BaseException, *, whole: bool) -> None:
    """Print the traceback; where messages may name patients, without them."""
    if whole:
        traceback.print_exception(error)
        return
    chain: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in chain:
        chain.append(one)
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    for link in reversed(chain):
        print("Traceback (most recent call last; messages are withheld):", file=sys.stderr)
        print("".join(traceback.format_tb(link.__traceback__)) + type(link).__name__, file=sys.stderr)


def _print(message: str, code: int) -> int:
    print(f"medidistill: error: {' '.join(message.split())}", file=sys.stderr)
    return code


class _Keeper(logging.Handler):
    """Collects what libraries say; they say little, and where to write it is known at the end."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message."""
        if len(self.lines) < _MOST_MESSAGES:
            with contextlib.suppress(Exception):  # a message that cannot be formatted
                self.lines.append(self.format(record))


@contextlib.contextmanager
def keep_library_messages(arguments: Namespace) -> Iterator[None]:
    """Keep log records and warnings of libraries off stderr inside the block; a private file gets them.

    Commands that read no patients' data are left alone.
    """
    if private_file(arguments) is None:
        yield
        return
    keeper, root = _Keeper(), logging.getLogger()
    root.addHandler(keeper)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(keeper)
        place = private_file(arguments)
        if keeper.lines and place is not None:
            log = place.with_name("libraries.log" if place.parent.name == "ingest" else f"{place.stem}.log")
            kept = _keep(log, "\n".join([*keeper.lines, ""]))
            if not arguments.quiet:
                what = f"{_counted(len(keeper.lines), 'message')} of libraries that may name files or patients"
                print(f"medidistill: {what}{kept}", file=sys.stderr)
