"""Models: p(x, z) and q(z | x), each written for ONE example, and the networks inside them."""

from ._contracts import AbstractGenerativeModel as AbstractGenerativeModel
from ._contracts import AbstractPriorLikelihood as AbstractPriorLikelihood
from ._contracts import AbstractRecognitionModel as AbstractRecognitionModel
from ._networks import ACTIVATIONS as ACTIVATIONS
from ._networks import INITIALIZATIONS as INITIALIZATIONS
from ._networks import MLP as MLP
from ._networks import Activation as Activation
from ._networks import Initialization as Initialization
from ._networks import Linear as Linear
from ._presets import Architecture as Architecture
from ._presets import build as build
from ._vae import BernoulliGenerative as BernoulliGenerative
from ._vae import GaussianGenerative as GaussianGenerative
from ._vae import GaussianRecognition as GaussianRecognition
from ._vae import StandardNormalPrior as StandardNormalPrior
