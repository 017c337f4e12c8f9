"""Copies of bundles outside of their run folders, each of them logged."""

from __future__ import annotations

import shutil
from pathlib import Path

from medidistill.errors import ConfigError
from medidistill.export import load, require_verified
from medidistill.files import publish_folder, sha256_file, translate_os_errors
from medidistill.pipeline.release import release_log
from medidistill.pipeline.unattended.intake_folder import remove
from medidistill.privacy import set_digest

__all__ = ["deliver_bundle"]


def deliver_bundle(bundle: Path, target: Path, ledger: Path, *, released: bool) -> None:
    """Copy a bundle to where it is delivered: whole or not at all, and once; the log of releases says so.

    Args:
        bundle: of a run.
        target: the copy; one that is there already and is the same is left alone.
        ledger: the log lies beside it.
        released: whether the bundle passed the privacy gate, for the log.

    Raises:
        ConfigError: something else is there.
        ResourceError: it cannot be written or logged.
        IngestError: the bundle is not as it was written.
    """
    require_verified(bundle)
    sums = "SHA256SUMS"
    if target.exists():
        if (target / sums).is_file() and sha256_file(target / sums) == sha256_file(bundle / sums):
            return
        raise ConfigError(f"{target}: exists and is another bundle; move it away, nothing is overwritten")
    part = target.with_name(f".{target.name}.part")
    remove(part)
    with translate_os_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(bundle, part)
        publish_folder(part)
    require_verified(part)
    facts = {"bundle": sha256_file(part / sums), "set": set_digest(load(part)), "released": released}
    facts["where"] = str(target)
    log = ledger.with_name(release_log.NAME)
    release_log.note(log, "delivering", **facts)
    with translate_os_errors(target):
        part.rename(target)
    release_log.note(log, "delivered", **facts)
