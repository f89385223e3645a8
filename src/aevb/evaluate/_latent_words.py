"""What the diagnostics of the latent space mean, in plain words."""

import numpy as np

from ._latent import Bounds, LatentDiagnostics
from ._words import Verdict, down, nats, sigmas, sigmas_of_any, up

# A share of saturated rows that is worth a word.
_MANY = 0.05
# Rows whose standard errors tell too little for a bound.
_FEW_ROWS = 10
# A KL that is nothing, little information, correlations that are strong, and a distance from the prior that is far.
_NOTHING, _LITTLE, _CORRELATED, _FAR_PRIOR = 0.01, 0.5, 0.8, 1.0


def collapse_verdict(diagnostics: LatentDiagnostics) -> Verdict:
    """Whether z is used: active dimensions, what they tell about x, and where the z of data lie against the prior.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from aevb.evaluate import latent_diagnostics
        >>> from aevb.models import Decoder, Encoder, Mlp
        >>> g = Decoder(4, 2, Mlp((3,)), key=jax.random.key(0))
        >>> q = Encoder(4, 2, Mlp((3,)), key=jax.random.key(1))
        >>> q = jax.tree.map(jnp.zeros_like, q)  # q(z | x) = N(0, I) for every x
        >>> d = latent_diagnostics(g, q, np.eye(16, 4, dtype=np.float32), jax.random.key(2))
        >>> print(collapse_verdict(d).headline.split(" (")[0])
        0 of 2 latent dimensions are active; what z tells about x cannot be told from zero
    """
    d = diagnostics
    num_dims = len(d.active)
    are = "dimension is" if num_dims == 1 else "dimensions are"
    details = [_by_layer(d), _idle(d), _correlated_pair(d), _fit_of_prior(d)]
    headline = f"{d.num_active} of {num_dims} latent {are} active; {_information(d)}."
    return Verdict(headline, " ".join(s for s in details if s), _advice(d))


def _interval(bounds: Bounds) -> tuple[float, float]:
    return bounds.interval(sigmas(bounds.lower.num_rows))


def _information(d: LatentDiagnostics) -> str:
    """Between the two estimates, and never more than the KL, of which it is a part."""
    if d.mutual_information is None:
        return f"D_KL(q(z | x) || p(z | given)) is {nats(d.kl)} nats"
    low, high = _interval(d.mutual_information)
    high = min(high, d.kl.value + sigmas(d.kl.num_rows) * d.kl.standard_error)
    if low <= 0 and d.kl.num_rows < _FEW_ROWS:
        return f"what z tells about x cannot be told of {d.kl.num_rows} rows"
    if low <= 0:
        return f"what z tells about x cannot be told from zero (at most {up(high)} nats)"
    return f"z carries between {down(low)} and {up(high)} nats about x"


def _advice(d: LatentDiagnostics) -> str:
    low, high = _used(d)
    if d.num_active == 0 and low <= 0 and high <= _LITTLE:
        return "z is hardly used: try --kl-warmup or --free-bits."
    if d.aggregate_kl is not None and _interval(d.aggregate_kl)[0] > _FAR_PRIOR:
        return "A prior that is learned (--prior mixture, vamp or flow) may bring samples nearer to the data."
    return ""


def _used(d: LatentDiagnostics) -> tuple[float, float]:
    """Of the information in z; in a conditional model, of the KL, which is at least that of z and x, given what is."""
    if d.mutual_information is not None:
        return _interval(d.mutual_information)
    return 0.0, d.kl.value + sigmas(d.kl.num_rows) * d.kl.standard_error


def _idle(d: LatentDiagnostics) -> str:
    """The dimensions that do not follow x, and what they cost."""
    idle = np.flatnonzero(~d.active)
    if len(idle) == 0:
        return ""
    if d.num_active == 0:
        cost = f" It costs {d.kl.value:.2f} nats of KL all the same." if d.kl.value >= 0.1 else ""
        low, high = _used(d)
        if low > 0:
            return "The posterior means hardly move with x: z tells of x by the shape of q(z | x)." + cost
        if high > _LITTLE:
            return "The posterior means hardly move with x." + cost
        return f"The posterior looks collapsed: its means hardly move with x.{cost}"
    rest = "other one" if len(idle) == 1 else f"other {len(idle)}"
    if d.kl_per_dimension is None:
        return f"The posterior mean of the {rest} hardly moves with x."
    largest = float(d.kl_per_dimension[idle].max())
    each, has, moves = ("", "has", "moves") if len(idle) == 1 else (" each", "have", "move")
    if largest < _NOTHING:
        return f"The {rest} {has} a KL of less than {_NOTHING} nats{each} and could be left out."
    return f"The {rest} {has} a KL of up to {largest:.2g} nats{each}, but hardly {moves} with x."


def _by_layer(d: LatentDiagnostics) -> str:
    """What each layer does, and which of these numbers are no divergences."""
    if d.layers is None:
        return ""
    parts = [
        f"{layer.name} (dimension{'' if layer.first == layer.last else 's'} {layer.first}"
        f"{'' if layer.first == layer.last else f' to {layer.last}'}) has {layer.num_active} active and adds "
        f"{nats(layer.kl)} nats to the KL"
        for layer in d.layers
    ]
    text = f"By layers: {'; '.join(parts)}."
    no_divergence = [layer.name for layer in d.layers if not layer.is_divergence]
    if no_divergence:
        text += (
            f" What {' and '.join(no_divergence)} add{'' if len(no_divergence) > 1 else 's'} could be negative and is "
            "no divergence by itself: p draws it given a layer that q draws after it. The KL itself is never negative."
        )
    for layer in d.layers:
        high = layer.kl.value + sigmas(layer.kl.num_rows) * layer.kl.standard_error
        if layer.is_divergence and layer.is_first and high <= _LITTLE:
            text += f" What {layer.name} tells about x is at most {up(max(high, 0.0))} nats."
    return text


def _correlated_pair(d: LatentDiagnostics) -> str:
    """The pair of active dimensions with the strongest correlation, if its size is told from 0.8.

    atanh r is about normal with the variance 1/(N - 3) (Fisher 1921); the chance of 3 sigma is shared by all pairs.
    """
    pairs = np.triu(d.active[:, None] & d.active[None, :], 1)
    if d.kl.num_rows < 4 or not pairs.any():
        return ""
    strength = np.where(pairs, np.abs(np.nan_to_num(d.correlation)), 0.0)
    least = np.arctanh(_CORRELATED) + sigmas_of_any(int(pairs.sum())) / np.sqrt(d.kl.num_rows - 3)
    strong = int(np.count_nonzero(strength > np.tanh(least)))
    if strong == 0:
        return ""
    i, j = divmod(int(np.argmax(strength)), len(d.active))
    others = "" if strong == 1 else f" ({strong - 1} other pair{'s' if strong > 2 else ''} above {_CORRELATED})"
    return (
        f"The means of dimensions {i + 1} and {j + 1} have a correlation of {d.correlation[i, j]:.2f}{others}: fewer "
        "dimensions may do as well."
    )


def _fit_of_prior(d: LatentDiagnostics) -> str:
    if d.mutual_information is None or d.aggregate_kl is None:
        return ""
    low, high = _interval(d.aggregate_kl)
    if low <= 0 and d.kl.num_rows < _FEW_ROWS:
        return ""
    if low > _FAR_PRIOR:
        return (
            f"The z of data are at least {down(low)} nats from the prior: samples from p(z) may come from where few z "
            "of data lie."
        )
    n, saturated = d.mutual_information.lower.num_rows, d.num_saturated or 0
    if high <= _FAR_PRIOR:
        return f"The z of data are at most {up(high)} nats from the prior."
    text = (
        f"The z of data are between {down(low)} and {up(high)} nats from the prior."
        if low > 0
        else f"The distance of the z of data from the prior cannot be told from zero (at most {up(high)} nats)."
    )
    why = f" In {saturated:,} of {n:,} rows z lies where no other row's z does: too few rows to tell more."
    return text + (why if saturated > _MANY * n else "")
