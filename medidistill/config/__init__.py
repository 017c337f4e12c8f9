"""One frozen dataclass for each stage. Every field carries its help text and its allowed range.

The dataclasses validate themselves on construction and do not depend on YAML: `medidistill.pipeline`
reads the files. `digest` identifies a configuration by its content.
"""

from medidistill.config.data import IngestConfig, PhantomConfig
from medidistill.config.distillation import DistillConfig, ImportanceConfig
from medidistill.config.evaluation import ClinicalConfig, EvaluateConfig, SaliencyConfig
from medidistill.config.fields import as_dict, digest, with_settings
from medidistill.config.methods import FLAT_EXPERTS, METHOD_TITLES, METHODS
from medidistill.config.privacy import DPConfig, PolicyConfig, PrivacyConfig
from medidistill.config.quality import QualityConfig
from medidistill.config.run import RunConfig
from medidistill.config.sources import Licence, SourceConfig, combine
from medidistill.config.training import AdaptiveTraining, AugmentConfig, ExpertConfig, NetworkConfig, TrainingConfig

__all__ = [
    "FLAT_EXPERTS",
    "METHODS",
    "METHOD_TITLES",
    "AdaptiveTraining",
    "AugmentConfig",
    "ClinicalConfig",
    "DPConfig",
    "DistillConfig",
    "EvaluateConfig",
    "ExpertConfig",
    "ImportanceConfig",
    "IngestConfig",
    "Licence",
    "NetworkConfig",
    "PhantomConfig",
    "PolicyConfig",
    "PrivacyConfig",
    "QualityConfig",
    "RunConfig",
    "SaliencyConfig",
    "SourceConfig",
    "TrainingConfig",
    "as_dict",
    "combine",
    "digest",
    "with_settings",
]
