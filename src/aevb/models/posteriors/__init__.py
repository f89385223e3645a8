"""Posteriors q(z | x), and the flows that some are made of."""

from aevb._spec import Registry
from aevb.distributions import FAMILIES

from ._families import GaussianPosterior as GaussianPosterior
from ._families import family_posterior as family_posterior
from ._flow_posteriors import Coupling as Coupling
from ._flow_posteriors import Iaf as Iaf
from ._flows import AbstractFlow as AbstractFlow
from ._flows import CouplingFlow as CouplingFlow
from ._flows import FlowDistribution as FlowDistribution
from ._flows import check_flow as check_flow
from ._full_covariance import Elliptical as Elliptical
from ._full_covariance import FullCovariance as FullCovariance
from ._iaf import InverseAutoregressiveFlow as InverseAutoregressiveFlow
from ._spec import PosteriorSpec as PosteriorSpec

POSTERIORS: Registry[PosteriorSpec] = Registry(
    "posterior",
    GaussianPosterior,
    FullCovariance,
    Elliptical,
    Iaf,
    Coupling,
    *(family_posterior(name) for name in FAMILIES if name != "normal"),
    base=PosteriorSpec,
)
