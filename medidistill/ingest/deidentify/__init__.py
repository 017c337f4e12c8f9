"""De-identification of chest radiographs: engine, screens, residual check and audit log.

`deidentify` is the pure function, `deidentify_folder` the whole job, `verify_audit` checks its log.
"""

from medidistill.ingest.deidentify.change_log import verify_audit
from medidistill.ingest.deidentify.engine import Change, Deidentified, deidentify
from medidistill.ingest.deidentify.folder import DeidentifyResult, deidentify_folder, locate
from medidistill.ingest.deidentify.identifying_values import Identifiers, identifiers
from medidistill.ingest.deidentify.keys import KEY_VARIABLE, Key, load_key
from medidistill.ingest.deidentify.labels import LabelsWritten, write_labels
from medidistill.ingest.deidentify.residual import residuals
from medidistill.ingest.deidentify.settings import DeidentifyConfig, load_recipe
from medidistill.ingest.deidentify.text import letters_in_row

__all__ = [
    "KEY_VARIABLE",
    "Change",
    "Deidentified",
    "DeidentifyConfig",
    "DeidentifyResult",
    "Identifiers",
    "Key",
    "LabelsWritten",
    "deidentify",
    "deidentify_folder",
    "identifiers",
    "letters_in_row",
    "load_key",
    "load_recipe",
    "locate",
    "residuals",
    "verify_audit",
    "write_labels",
]
