"""Models by the names of their parts, as the command line has them."""

import dataclasses

from aevb import distributions
from aevb.data import Values
from aevb.models import LIKELIHOODS, POSTERIORS, PRIORS, LocationScaleLikelihood, Mlp, Vae
from aevb.models import choose_latents as choose_specs

FLOWS = ("iaf", "coupling", "flow")
MIXTURES = ("mixture", "vamp")


def by_names(
    data_dim, latent_dim, hidden, activation, likelihood, *,
    grey=None, sigmoid_mean=None, min_scale=None, df=None,
    posterior="gaussian", prior="normal", prior_components=None, flow_steps=None, flow_hidden=None,
) -> Vae:  # fmt: skip
    """The spec of a model; options that are None are the kind's own."""
    flow = {"steps": flow_steps, "hidden": flow_hidden, "activation": activation}
    options = dict.fromkeys(FLOWS, flow) | {kind: {"components": prior_components} for kind in MIXTURES}

    def of(registry, kind, **named):
        return registry.make(kind, **{name: value for name, value in named.items() if value is not None})

    return Vae(
        data_dim,
        latent_dim,
        Mlp(tuple(hidden), activation),
        of(LIKELIHOODS, likelihood, grey=grey, sigmoid_mean=sigmoid_mean or None, min_scale=min_scale, df=df),
        of(POSTERIORS, posterior, **options.get(posterior, {})),
        of(PRIORS, prior, **options.get(prior, {})),
    )


def build(spec: Vae, **options):
    """Its two models."""
    return spec.build(**options)


def choose_latents(posterior: str, prior: str) -> tuple[str, str]:
    """Names in the place of "auto"."""
    q = None if posterior == "auto" else POSTERIORS.make(posterior)
    p = None if prior == "auto" else PRIORS.make(prior)
    q, p = choose_specs(q, p)
    return q.kind, p.kind


@dataclasses.dataclass(frozen=True)
class Cauchy(LocationScaleLikelihood):
    """A likelihood as a user would write it."""

    kind = "cauchy"
    values = Values.REAL

    def family(self, loc, scale):
        return distributions.Cauchy(loc, scale)
