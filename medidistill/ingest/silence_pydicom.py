"""Silence pydicom: its messages quote the values of damaged elements, which may be a patient's."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

from pydicom import config as pydicom_config

__all__ = ["silence_pydicom"]


@contextlib.contextmanager
def silence_pydicom() -> Iterator[None]:
    """Silence pydicom's logger and warnings inside the block, and turn off its validation of values."""
    logger = logging.getLogger("pydicom")
    # `disabled` would silence this logger alone: the decoders have children of it
    before = logger.propagate, logger.handlers
    logger.propagate, logger.handlers = False, [logging.NullHandler()]
    settings = pydicom_config.settings
    modes = settings.reading_validation_mode, settings.writing_validation_mode
    settings.reading_validation_mode = settings.writing_validation_mode = pydicom_config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.propagate, logger.handlers = before
        settings.reading_validation_mode, settings.writing_validation_mode = modes
