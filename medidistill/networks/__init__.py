"""Networks, their training, and their parameters as flat vectors. Needs torch alone."""

from __future__ import annotations

from medidistill.networks.adapting import RepeatChannel, adapt_network
from medidistill.networks.allocator import freed_memory_returned, raise_malloc_thresholds
from medidistill.networks.augment import augment, draw
from medidistill.networks.compiling import (
    Compilations,
    CompiledByShape,
    compiled_once,
    should_compile,
    watch_compilations,
)
from medidistill.networks.convnet import ConvNet
from medidistill.networks.convnet_derivatives import ConvNetDerivatives
from medidistill.networks.custom import NetworkFactory, is_custom, register_network
from medidistill.networks.functional import (
    Criterion,
    ParameterLayout,
    check_deterministic,
    cross_entropy,
    loss_function,
)
from medidistill.networks.penultimate import FeatureFunction, penultimate
from medidistill.networks.private_training import (
    PatientGradient,
    check_private,
    noised_class_counts,
    patient_numbers,
    patient_weights,
    secret_generator,
    train_private,
)
from medidistill.networks.schedule import Batch, Program
from medidistill.networks.training import gradient_function, predict, train, train_on_distilled
from medidistill.networks.workers import Workers, tell_share
from medidistill.networks.zoo import make_network

__all__ = [
    "Batch",
    "Compilations",
    "CompiledByShape",
    "ConvNet",
    "ConvNetDerivatives",
    "Criterion",
    "FeatureFunction",
    "NetworkFactory",
    "ParameterLayout",
    "PatientGradient",
    "Program",
    "RepeatChannel",
    "Workers",
    "adapt_network",
    "augment",
    "check_deterministic",
    "check_private",
    "compiled_once",
    "cross_entropy",
    "draw",
    "freed_memory_returned",
    "gradient_function",
    "is_custom",
    "loss_function",
    "make_network",
    "noised_class_counts",
    "patient_numbers",
    "patient_weights",
    "penultimate",
    "predict",
    "raise_malloc_thresholds",
    "register_network",
    "secret_generator",
    "should_compile",
    "tell_share",
    "train",
    "train_on_distilled",
    "train_private",
    "watch_compilations",
]
