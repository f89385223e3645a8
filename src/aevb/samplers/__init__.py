"""Chains that move through R^k: Hamiltonian Monte Carlo, annealing paths, and maps of R^k onto where z can lie."""

from ._annealing import Annealing as Annealing
from ._annealing import Bridge as Bridge
from ._annealing import Chains as Chains
from ._annealing import begin as begin
from ._annealing import pilot_run as pilot_run
from ._annealing import relative_weights as relative_weights
from ._annealing import run as run
from ._chain import Chain as Chain
from ._chain import sample_by_hmc as sample_by_hmc
from ._hmc import Position as Position
from ._hmc import transition as transition
from ._unconstrained import Unconstrained as Unconstrained
from ._unconstrained import support_within as support_within
from ._unconstrained import unconstrained as unconstrained
