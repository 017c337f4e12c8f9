"""What a stage is: the one protocol that the runner, the plan, the memory check and the command line ask.

The stages themselves lie in `medidistill.pipeline.stages`, one file each, and are listed there once.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from medidistill.config import RunConfig
    from medidistill.pipeline.planning.memory import Need
    from medidistill.pipeline.planning.survey import Survey
    from medidistill.pipeline.runfolder.run_folder import RunFolder
    from medidistill.pipeline.work import RunContext

__all__ = ["Estimate", "Stage"]


@dataclass(frozen=True)
class Estimate:
    """What a stage is expected to take: the time in seconds, the size on disk in bytes."""

    seconds: float
    disk: float


class Stage(abc.ABC):
    """One stage of a run.

    An instance is one entry of the record: `ingest`, or `distill/mtt`. It holds no state beside its name.

    Attributes:
        kind: its name in the registry and on the command line (`--from`, `--until`); files lie in a folder of that
            name unless `RunFolder` says otherwise.
        title: what it does, for people.
    """

    kind: ClassVar[str]
    title: ClassVar[str]

    @property
    def name(self) -> str:
        """Its name in the record: the kind, with a suffix where a kind has several stages."""
        return self.kind

    @classmethod
    def of(cls, config: RunConfig) -> tuple[Stage, ...]:
        """Return the stages of this kind that a run needs, in order: one, unless a kind says otherwise."""
        return (cls(),)

    @abc.abstractmethod
    def inputs(self, run: RunContext) -> str:
        """Return the digest of all that the result rests on. Raises `ConfigError` where an earlier stage is missing."""

    @abc.abstractmethod
    def outputs(self, run: RunContext) -> tuple[Path, ...]:
        """Return the files without which the stage has not finished."""

    @abc.abstractmethod
    def run(self, run: RunContext) -> Any:
        """Do the stage as a part of a whole run, unless it was done with the same inputs; note it in the record.

        Returns:
            The `Comparison` of the stage that makes one, else None.
        """

    @abc.abstractmethod
    def estimate(self, survey: Survey) -> Estimate:
        """Return what the stage is expected to take, from figures measured on this machine."""

    def needs(self, config: RunConfig, images: int, classes: int) -> tuple[Need, ...]:
        """Return the memory that the stage needs; empty, the default, where it is small beside that of others.

        Args:
            config: the run.
            images: real ones; 0 while they are not read.
            classes: of the images.
        """
        return ()

    @abc.abstractmethod
    def discard(self, folder: RunFolder) -> None:
        """Remove what the stage left, so that it is done anew; what it replaces as a whole may stay until then.

        Raises:
            ResourceError: it cannot be removed.
        """
