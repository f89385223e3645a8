"""Recognition models beyond the diagonal Gaussian: correlated, heavy-tailed, of other families, and with a flow."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from aevb.distributions import (
    FAMILIES,
    Distribution,
    MultivariateNormal,
    MultivariateStudentT,
    Normal,
    positive_scale,
)

from ._contracts import AbstractRecognitionModel
from ._flows import AbstractFlow, CouplingFlow, FlowDistribution
from ._iaf import InverseAutoregressiveFlow
from ._networks import MLP, Activation, Initialization, Linear


class FullCovarianceRecognition(AbstractRecognitionModel):
    r"""q(z | x) = N(mu, L L'), with mu and the lower-triangular L functions of x.

    h = MLP(x); mu = W_mu h + b_mu; L = diag(sigma) (I + N), with sigma = positive_scale(W_sigma h + b_sigma) and N
    strictly lower triangular, N_jk = asinh(W_N h + b_N). L's diagonal is sigma. The rows of N are relative to sigma
    and grow slowly, so that L stays well enough conditioned for log q at any output of the network; every Gaussian can
    still be expressed.

    Args:
        data_dim: D, length of x.
        latent_dim: J, length of z.
        hidden, activation, initialization: of the network; see `MLP`.
        elliptical: a multivariate Student t with location mu, scale matrix L L' and `df` degrees of freedom in the
            place of the Gaussian: the same ellipsoids with heavier tails ("Elliptical" in section 2.4 of the paper).
        df: degrees of freedom of the Student t; above 2, for the covariance to exist. Fixed, as the auxiliary noise
            of a location-scale family is.
        key: for the initial weights.

    Example:
        >>> model = FullCovarianceRecognition(5, 2, (8,), key=jax.random.key(0))
        >>> q = model.posterior(jnp.ones(5))
        >>> q.event_shape, q.covariance_matrix.shape
        ((2,), (2, 2))
    """

    trunk: MLP
    loc: Linear
    raw_scale: Linear
    raw_lower: Linear | None
    elliptical: bool = eqx.field(static=True)
    df: float = eqx.field(static=True)

    def __init__(
        self,
        data_dim: int,
        latent_dim: int,
        hidden: tuple[int, ...] = (500,),
        activation: Activation = "tanh",
        initialization: Initialization = "glorot",
        *,
        elliptical: bool = False,
        df: float = 5.0,
        key: PRNGKeyArray,
    ):
        if not 2 < df < 1e6:
            raise ValueError(f"df must be above 2, for a covariance to exist, and below a million, got {df}")
        trunk_key, loc_key, scale_key, lower_key = jax.random.split(key, 4)
        self.trunk = MLP(data_dim, hidden, activation, initialization, key=trunk_key)
        self.loc = Linear(self.trunk.out_size, latent_dim, initialization, key=loc_key)
        self.raw_scale = Linear(self.trunk.out_size, latent_dim, initialization, key=scale_key)
        below = latent_dim * (latent_dim - 1) // 2  # none with J = 1
        self.raw_lower = Linear(self.trunk.out_size, below, initialization, key=lower_key) if below else None
        self.elliptical, self.df = elliptical, df

    def posterior(self, x: Float[Array, " D"]) -> Distribution:
        """q(z | x), with a full covariance over J dimensions."""
        h = self.trunk(x)
        loc, factor = self.loc(h), self._factor(h)
        if self.elliptical:
            return MultivariateStudentT(self.df, loc, factor)
        return MultivariateNormal(loc, scale_tril=factor)

    def _factor(self, h: Array) -> Float[Array, "J J"]:
        sigma = positive_scale(self.raw_scale(h))
        unit = jnp.eye(len(sigma), dtype=sigma.dtype)
        if self.raw_lower is not None:
            unit = unit.at[jnp.tril_indices(len(sigma), -1)].set(jnp.arcsinh(self.raw_lower(h)))
        return sigma[:, None] * unit


class FlowRecognition(AbstractRecognitionModel):
    r"""q(z | x) of z = flow(eps; h), eps ~ N(mu, diag sigma^2), h = MLP(x).

    mu and sigma are those of `GaussianRecognition`; h is the flow's context. Kingma et al. (2016), Algorithm 1;
    Rezende & Mohamed (2015). log q of a sample comes with it in one pass (`rsample_and_log_prob`). At a given z it
    costs one pass with "coupling", and J with "iaf".

    Args:
        data_dim: D, length of x.
        latent_dim: J, length of z.
        hidden, activation, initialization: of the encoder; see `MLP`.
        flow: "iaf" or "coupling".
        steps: of the flow.
        flow_hidden: units of the hidden layers of each step's network; its activation is the encoder's.
        key: for the initial weights.
    """

    trunk: MLP
    loc: Linear
    raw_scale: Linear
    flow: AbstractFlow

    def __init__(
        self,
        data_dim: int,
        latent_dim: int,
        hidden: tuple[int, ...] = (500,),
        activation: Activation = "tanh",
        initialization: Initialization = "glorot",
        *,
        flow: str,
        steps: int,
        flow_hidden: tuple[int, ...],
        key: PRNGKeyArray,
    ):
        kinds = {"iaf": InverseAutoregressiveFlow, "coupling": CouplingFlow}
        if flow not in kinds:
            raise ValueError(f"unknown flow {flow!r}; choose one of {', '.join(kinds)}")
        trunk_key, loc_key, scale_key, flow_key = jax.random.split(key, 4)
        self.trunk = MLP(data_dim, hidden, activation, initialization, key=trunk_key)
        self.loc = Linear(self.trunk.out_size, latent_dim, initialization, key=loc_key)
        self.raw_scale = Linear(self.trunk.out_size, latent_dim, initialization, key=scale_key)
        self.flow = kinds[flow](
            latent_dim, self.trunk.out_size, steps=steps, hidden=flow_hidden, activation=activation, key=flow_key
        )

    def posterior(self, x: Float[Array, " D"]) -> Distribution:
        """q(z | x), a `Reparameterized` distribution over J dimensions."""
        h = self.trunk(x)
        noise = Normal(self.loc(h), positive_scale(self.raw_scale(h))).to_event(1)
        return FlowDistribution(noise, self.flow, h)


class FamilyRecognition(AbstractRecognitionModel):
    """q(z | x) of a named family: h = MLP(x), and one affine map of h per parameter of the family.

    Args:
        data_dim: D, length of x.
        latent_dim: J, length of z.
        hidden, activation, initialization: of the network; see `MLP`.
        family: a name in `aevb.distributions.FAMILIES`, which says how raw outputs become parameters.
        key: for the initial weights.
    """

    trunk: MLP
    heads: dict[str, Linear]
    family: str = eqx.field(static=True)

    def __init__(
        self,
        data_dim: int,
        latent_dim: int,
        hidden: tuple[int, ...] = (500,),
        activation: Activation = "tanh",
        initialization: Initialization = "glorot",
        *,
        family: str,
        key: PRNGKeyArray,
    ):
        if family not in FAMILIES:
            raise ValueError(f"unknown family {family!r}; choose one of {', '.join(FAMILIES)}")
        parameters = sorted(FAMILIES[family].parameters)
        trunk_key, *keys = jax.random.split(key, 1 + len(parameters))
        self.trunk = MLP(data_dim, hidden, activation, initialization, key=trunk_key)
        size = self.trunk.out_size
        self.heads = {p: Linear(size, latent_dim, initialization, key=k) for p, k in zip(parameters, keys, strict=True)}
        self.family = family

    def posterior(self, x: Float[Array, " D"]) -> Distribution:
        """q(z | x), of the family, over J dimensions."""
        h = self.trunk(x)
        return FAMILIES[self.family].from_raw({name: head(h) for name, head in self.heads.items()})
