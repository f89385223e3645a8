"""The networks inside encoders and decoders."""

from ._made import MaskedNetwork as MaskedNetwork
from ._mlp import ACTIVATIONS as ACTIVATIONS
from ._mlp import INITIALIZATIONS as INITIALIZATIONS
from ._mlp import MLP as MLP
from ._mlp import Activation as Activation
from ._mlp import Initialization as Initialization
from ._mlp import Linear as Linear
from ._product import row_times_matrix as row_times_matrix
from ._specs import NETWORKS as NETWORKS
from ._specs import Mlp as Mlp
from ._specs import Modules as Modules
from ._specs import Network as Network
from ._specs import NetworkSpec as NetworkSpec
from ._specs import out_size_of as out_size_of
