"""Where importance samples come from: the encoder's q(z | x), and what reaches the regions that it leaves out."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from aevb.distributions import Distribution, Reparameterized, as_drawn, rsample_and_log_prob, sample_and_log_prob
from aevb.errors import UnavailableError
from aevb.models import (
    AbstractGenerativeModel,
    AbstractPriorLikelihood,
    AbstractRecognitionModel,
    X,
    log_prior_of,
    posterior_of,
    prior_of,
)
from aevb.samplers import unconstrained

Proposal = Literal["defensive", "encoder"]

# Kinds of components: q(z | x), q stretched a little and much, p(z); and in which order the samples are theirs.
ENCODER, WIDER, WIDEST, PRIOR = range(4)
PATTERN = (ENCODER, WIDER, ENCODER, PRIOR, ENCODER, WIDER, ENCODER, WIDEST)
# By how much q is stretched: |eps|^2 / J of J normal numbers has the standard deviation sqrt(2 / J). Less is lost in
# the noise of q's own radius; much more puts every sample of many dimensions where the posterior is not.
_DEVIATIONS = {WIDER: 1.0, WIDEST: 4.0}
# Draws of q whose median is the point that it is stretched from.
_DRAWS = 64
# What the noise of a row that is no sample's is folded with.
_CENTRE, _OFFSET = np.uint32(2**32 - 1), np.uint32(2**32 - 2)


class Mixture(NamedTuple):
    """q0(z) of ONE row. Its functions make the distributions that they need anew at each call."""

    draw: Callable[[PRNGKeyArray, Int[Array, ""]], tuple[Array, Float[Array, ""]]]  # key, k -> z_k, log q0(z_k)
    log_prob: Callable[[Array], Float[Array, ""]]
    kind: Callable[[Int[Array, "*k"]], Int[Array, "*k"]]  # k -> which component z_k is a draw of


def proposal_components(
    generative: AbstractGenerativeModel, recognition: AbstractRecognitionModel, x: X
) -> tuple[str, ...]:
    """What the defensive proposal is a mixture of for these models: "encoder", and "widened" and "prior" if possible.

    A mixture asks for log q at points that q did not draw. An inverse autoregressive flow takes J passes to tell it,
    and a `Reparameterized` without an inverse cannot: these stand alone. A model that has log_joint() alone has no
    prior to draw from, and a latent without a path through R^k cannot be stretched.

    Args:
        generative: p(x, z).
        recognition: q(z | x).
        x: any row.

    Example:
        >>> from aevb.models import Decoder, Encoder, Mlp
        >>> g = Decoder(4, 2, Mlp((3,)), key=jax.random.key(0))
        >>> q = Encoder(4, 2, Mlp((3,)), key=jax.random.key(1))
        >>> proposal_components(g, q, jnp.ones(4))
        ('encoder', 'widened', 'prior')
    """
    kinds = _pattern(generative, recognition, x, "defensive")
    names = {ENCODER: "encoder", WIDER: "widened", WIDEST: "widened", PRIOR: "prior"}
    return tuple(dict.fromkeys(names[kind] for kind in sorted(kinds)))


def _pattern(
    generative: AbstractGenerativeModel, recognition: AbstractRecognitionModel, x: X, proposal: str
) -> tuple[int, ...]:
    """`PATTERN` without the components that these models have not got."""
    q = posterior_of(recognition, x)
    if (
        proposal == "encoder"
        or getattr(q, "slow_density", False)
        or (isinstance(q, Reparameterized) and q.inverse is None)
    ):
        return (ENCODER,)
    has_prior = isinstance(generative, AbstractPriorLikelihood)
    absent = set() if has_prior else {PRIOR}
    try:
        unconstrained(_support_of(generative, x, q))
    except UnavailableError:
        absent |= {WIDER, WIDEST}
    return tuple(kind for kind in PATTERN if kind not in absent)


def _support_of(generative: Any, x: X, q: Distribution) -> Distribution:
    """A distribution with the support of z: q's own may be a part of it, which moves from row to row."""
    return prior_of(generative, x) if isinstance(generative, AbstractPriorLikelihood) else q


def make_proposal(
    generative: Any, recognition: AbstractRecognitionModel, x: X, key: PRNGKeyArray, proposal: str
) -> Mixture:
    r"""q0(z) = sum_c a_c q_c(z), of which sample k comes from component c(k), in turn, beginning anywhere.

    With "encoder" q0 is q(z | x). With "defensive" it is 1/2 q(z | x) + 1/4 and 1/8 of q stretched, + 1/8 p(z), so that
    p(x, z) / q0(z) is at most twice p(x, z) / q(z | x), and at most 8 p(x | z): what q leaves out is met by others, and
    its weight is bounded where the likelihood is (Hesterberg 1995; Owen & Zhou 2000).

    Stretched by s: m + s (u - m), with u = z in R^k, by `unconstrained`, and m a median of draws of q. As the turn
    begins at a random place, each z_k alone has the density q0, and 1/K sum_k w_k is unbiased for any K; as the numbers
    of samples are nearly in the ratio of the a_c, it has less noise than independent choices would leave.
    """
    pattern = _pattern(generative, recognition, x, proposal)
    kinds, counts = np.unique(pattern, return_counts=True)
    log_shares = {int(kind): float(np.log(count / len(pattern))) for kind, count in zip(kinds, counts, strict=True)}

    def in_space() -> Any:
        return unconstrained(_support_of(generative, x, posterior_of(recognition, x)))

    centre, factors = jnp.zeros(()), {}
    if WIDER in log_shares:
        draws = posterior_of(recognition, x).sample(jax.random.fold_in(key, _CENTRE), (_DRAWS,))
        inside = jax.vmap(lambda z: in_space().inverse(z))(draws)
        # Where q reaches beyond the prior's support there is no u. The centre may be any point: 0 if there is none at
        # all.
        centre = jnp.nan_to_num(jnp.nanmedian(jnp.where(jnp.isfinite(inside), inside, jnp.nan), axis=0))
        factors = {kind: 1.0 + sd * np.sqrt(2.0 / max(centre.size, 1)) for kind, sd in _DEVIATIONS.items()}
    offset = jax.random.randint(jax.random.fold_in(key, _OFFSET), (), 0, len(pattern))

    def kind_of(k: Array) -> Array:
        return jnp.asarray(pattern)[(k.astype(int) + offset) % len(pattern)]

    def draw(key: PRNGKeyArray, k: Array) -> tuple[Array, Array]:
        q, kind = posterior_of(recognition, x), kind_of(k)
        draws = as_drawn(q)
        if len(log_shares) == 1:  # its density comes with it: in one pass, and as it was drawn
            return rsample_and_log_prob(q, key) if q.has_rsample else sample_and_log_prob(q, key)
        u = draws.sample(key, ())
        own = z = draws.value(u)
        lost = draws.held(u) & (kind != PRIOR)
        if factors:
            to = in_space()
            stretched = {c: to.forward(centre + s * (to.inverse(own) - centre)) for c, s in factors.items()}
            for c, value in stretched.items():
                exists = jnp.all(jnp.isfinite(value))
                z = jnp.where((kind == c) & exists, value, z)
                lost = lost | ((kind == c) & ~exists)
        if PRIOR in log_shares:
            z = jnp.where(kind == PRIOR, prior_of(generative, x).sample(key), z)
        # A draw of q outside of the prior's support, where p(x, z) is zero, has nothing to stretch, and one that floats
        # could not hold was drawn with another density than that of the point where it is held: they weigh nothing.
        return z, jnp.where(lost, jnp.inf, log_prob(z))

    def log_density(kind: int, z: Array) -> Float[Array, ""]:
        if kind == PRIOR:
            return log_prior_of(generative, x, z)
        q = posterior_of(recognition, x)
        if kind == ENCODER:
            return q.log_prob(z)
        to, s = in_space(), factors[kind]
        u = to.inverse(z)
        back = centre + (u - centre) / s
        log_q = q.log_prob(to.forward(back)) + to.log_det(back) - to.log_det(u) - u.size * np.log(s)
        return jnp.where(jnp.isnan(log_q), -jnp.inf, log_q)

    def log_prob(z: Array) -> Float[Array, ""]:
        each = [log_share + log_density(kind, z) for kind, log_share in log_shares.items()]
        return jax.scipy.special.logsumexp(jnp.stack(each)) if len(each) > 1 else each[0]

    return Mixture(draw, log_prob, kind_of)
