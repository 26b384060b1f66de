"""Construction of the training method from the recipe's method section."""

from typing import Any

from training.config.contrastive import ContrastiveConfig
from training.config.lir import LirConfig
from training.config.masa import MasaConfig
from training.config.method import DistillationConfig, FLSeSimConfig, SupervisedConfig
from training.config.paired import PairedSRConfig
from training.config.paired_gan import PairedGanConfig
from training.methods.contrastive import Contrastive
from training.methods.distillation import Distillation
from training.methods.f_lsesim import FLSeSim
from training.methods.inputs import Inputs
from training.methods.lir import LirMethod
from training.methods.masa import MasaMethod
from training.methods.method import Method
from training.methods.paired import PairedSR
from training.methods.paired_gan import PairedGan
from training.methods.supervised import Supervised


def build_method(inputs: Inputs) -> Method[Any]:
    """Build the method that the recipe names, with fresh weights drawn from the global seed."""
    config = inputs.recipe.method
    match config:
        case SupervisedConfig():
            return Supervised(inputs, config)
        case FLSeSimConfig():
            return FLSeSim(inputs, config)
        case DistillationConfig():
            return Distillation(inputs, config)
        case ContrastiveConfig():
            return Contrastive(inputs, config)
        case LirConfig():
            return LirMethod(inputs, config)
        case PairedGanConfig():
            return PairedGan(inputs, config)
        case PairedSRConfig():
            return PairedSR(inputs, config)
        case MasaConfig():
            return MasaMethod(inputs, config)
