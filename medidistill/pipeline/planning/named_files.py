"""Files and folders that settings name, looked for before hours of work, and folders that must not lie in one another.

What reads them says more, but late: the external test set in the evaluation, policy and ledger at the release.
"""

from __future__ import annotations

from pathlib import Path

from medidistill.config import RunConfig
from medidistill.errors import ConfigError, IngestError
from medidistill.pipeline.release.release_log import check_ledger
from medidistill.pipeline.release.releasing import load_policy
from medidistill.pipeline.runfolder.run_folder import RunFolder

__all__ = ["check_apart", "check_named_files", "check_source"]


def check_named_files(config: RunConfig, folder: RunFolder | None = None) -> None:
    """Refuse a configuration that names what is not there.

    Args:
        config: the run.
        folder: of a run that goes on: what it has read from elsewhere it needs no more.

    Raises:
        ConfigError: with the setting: `evaluate.external` or `evaluate.bundles` is not there, `privacy.policy` is no
            policy, or `privacy.ledger` is no absolute path.
    """
    rules = config.evaluate
    kept = folder is not None and (folder.ingest / "external" / "images.safetensors").is_file()
    if rules.external and not kept and not Path(rules.external).exists():
        raise ConfigError(
            f"evaluate.external={rules.external!r}: no such folder; name a folder of labelled X-rays, by its absolute "
            "path where commands are started from different folders, or leave it empty"
        )
    for bundle in rules.bundles:
        if not Path(bundle).is_dir():
            raise ConfigError(
                f"evaluate.bundles: {bundle!r}: no such folder; name the folder of a bundle, or take it out of the list"
            )
    try:
        load_policy(config.privacy.policy)
    except ConfigError as error:
        raise ConfigError(f"privacy.policy={config.privacy.policy!r}: {error}") from error
    check_ledger(config.privacy.ledger)


def check_source(source: Path | None, folder: RunFolder, *, resume: bool) -> None:
    """Refuse, before a run folder is made, an input that is not there, or that lies in the folder or around it.

    Args:
        source: folder of X-rays, or an archive of them; None: the one that the run was started with.
        folder: of the run.
        resume: the run goes on; what it has read it needs no more.

    Raises:
        IngestError: there is no input.
        ConfigError: input and run folder lie in one another.
    """
    if source is None or (resume and folder.has_finished_stages()):
        return
    if not source.exists():
        raise IngestError(f"--input {source}: no such {'file' if source.suffix else 'folder'}; name the X-rays")
    if not (resume and folder.holds_run()):
        check_apart(source, "--input", folder.path, "--output")


def check_apart(source: Path, source_name: str, output: Path, output_name: str) -> None:
    """Refuse an output inside its input, or the reverse: results would be read as X-rays.

    Args:
        source: folder of X-rays, or an archive of them.
        source_name: the option that named it.
        output: folder that is written into; it need not be there.
        output_name: the option that named it.

    Raises:
        ConfigError: one lies in the other.
    """
    here, there = Path(source).resolve(), Path(output).resolve()
    if here == there or here.is_relative_to(there) or there.is_relative_to(here):
        raise ConfigError(
            f"{output_name} {output}: {source_name} {source} and {output_name} must not lie in one another, or what is "
            f"written would be read as X-rays; choose another {output_name}"
        )
