"""Priors p(z): a family's standard member, and three that are learned."""

from aevb._spec import Registry
from aevb.distributions import FAMILIES, family_lies_within

from ._mixture import Mixture as Mixture
from ._priors import AbstractPrior as AbstractPrior
from ._priors import FlowPrior as FlowPrior
from ._priors import MixturePrior as MixturePrior
from ._priors import StandardPrior as StandardPrior
from ._priors import VampPrior as VampPrior
from ._priors import tie as tie
from ._priors import untie as untie
from ._specs import CouplingNormal as CouplingNormal
from ._specs import GaussianMixture as GaussianMixture
from ._specs import PriorSpec as PriorSpec
from ._specs import Surroundings as Surroundings
from ._specs import Vamp as Vamp
from ._specs import standard as standard

# Not the families whose standard member has an edge that no posterior of the list keeps to (pareto, reciprocal).
PRIORS: Registry[PriorSpec] = Registry(
    "prior",
    standard("normal"),
    GaussianMixture,
    Vamp,
    CouplingNormal,
    *(standard(name) for name in FAMILIES if name != "normal" and any(family_lies_within(q, name) for q in FAMILIES)),
    base=PriorSpec,
)
