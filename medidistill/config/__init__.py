"""One frozen dataclass for each stage. Every field carries its help text and its allowed range.

The dataclasses validate themselves on construction and do not depend on YAML: `medidistill.pipeline`
reads the files. `digest` identifies a configuration by its content.
"""

from medidistill.config.data import IngestConfig, PhantomConfig
from medidistill.config.distillation import FIXED_NETWORK_OBJECTIVES, DistillConfig
from medidistill.config.evaluation import ClinicalConfig, EvaluateConfig, SaliencyConfig
from medidistill.config.fields import as_dict, digest, with_settings, without_later_defaults
from medidistill.config.importance import ImportanceConfig
from medidistill.config.methods import DEFAULT_METHOD, METHODS, Method, RealData, preferred_method
from medidistill.config.privacy import DPConfig, PolicyConfig, PrivacyConfig
from medidistill.config.quality import QualityConfig
from medidistill.config.run import RunConfig
from medidistill.config.sources import Licence, SourceConfig, combine
from medidistill.config.training import AdaptiveTraining, AugmentConfig, ExpertConfig, NetworkConfig, TrainingConfig

__all__ = [
    "DEFAULT_METHOD",
    "FIXED_NETWORK_OBJECTIVES",
    "METHODS",
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
    "Method",
    "NetworkConfig",
    "PhantomConfig",
    "PolicyConfig",
    "PrivacyConfig",
    "QualityConfig",
    "RealData",
    "RunConfig",
    "SaliencyConfig",
    "SourceConfig",
    "TrainingConfig",
    "as_dict",
    "combine",
    "digest",
    "preferred_method",
    "with_settings",
    "without_later_defaults",
]
