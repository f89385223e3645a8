"""Training: algorithms as values (`Algorithm`), the compiled epoch, and optimisers."""

from ._aevb import aevb as aevb
from ._algorithm import Algorithm as Algorithm
from ._algorithm import Batch as Batch
from ._algorithm import Metrics as Metrics
from ._algorithm import TrainState as TrainState
from ._full_vb import ParameterPosterior as ParameterPosterior
from ._full_vb import full_vb as full_vb
from ._full_vb import parameter_posterior as parameter_posterior
from ._loop import EpochSummary as EpochSummary
from ._loop import compile_epoch as compile_epoch
from ._loop import epochs as epochs
from ._objective import FreeBits as FreeBits
from ._objective import free_bits_kl as free_bits_kl
from ._optimizers import OPTIMIZERS as OPTIMIZERS
from ._optimizers import SCHEDULES as SCHEDULES
from ._optimizers import Adagrad as Adagrad
from ._optimizers import Adam as Adam
from ._optimizers import Constant as Constant
from ._optimizers import Cosine as Cosine
from ._optimizers import Exponential as Exponential
from ._optimizers import Linear as Linear
from ._optimizers import OptimizerSpec as OptimizerSpec
from ._optimizers import Rmsprop as Rmsprop
from ._optimizers import ScheduleSpec as ScheduleSpec
from ._optimizers import Sgd as Sgd
