"""A variational auto-encoder in plain values: the spec of a whole model, which builds its two halves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from aevb._plain import checked
from aevb._spec import Registry, to_plain
from aevb.distributions import FAMILIES, family_lies_within
from aevb.errors import ConfigError

from ._decoder import Decoder
from ._encoder import Encoder
from .likelihoods import LIKELIHOODS, BernoulliLikelihood, LikelihoodSpec
from .networks import NETWORKS, Initialization, Mlp, Modules, NetworkSpec
from .posteriors import POSTERIORS, GaussianPosterior, PosteriorSpec
from .priors import PRIORS, PriorSpec, Surroundings, standard

_REGISTRIES: dict[str, Registry[Any]] = {
    "network": NETWORKS,
    "likelihood": LIKELIHOODS,
    "posterior": POSTERIORS,
    "prior": PRIORS,
}
_HEAVY = ("cauchy", "student-t")  # E[z^2] is infinite, or can be


@dataclass(frozen=True)
class Vae:
    """A variational auto-encoder: enough to build it, nothing that could run code.

    Args:
        data_dim: D, length of x.
        latent_dim: J, length of z.
        network: of encoder and decoder.
        likelihood: p(x | z).
        posterior: q(z | x).
        prior: p(z).
        raw_angles: of a posterior of angles, the decoder sees z and not (cos z, sin z): of old model files.

    Raises:
        ConfigError: a size is out of range, or z could lie where the prior has no density.

    Example:
        >>> from aevb.models import Iaf
        >>> spec = Vae(784, 2, Mlp((500,)), posterior=Iaf(steps=2, hidden=(64,)))
        >>> Vae.from_dict(spec.to_dict()) == spec
        True
    """

    data_dim: int
    latent_dim: int
    network: NetworkSpec = Mlp()
    likelihood: LikelihoodSpec = BernoulliLikelihood()
    posterior: PosteriorSpec = GaussianPosterior()
    prior: PriorSpec = standard("normal")()
    raw_angles: bool = False

    def __post_init__(self) -> None:
        for name in ("data_dim", "latent_dim"):
            size = checked(name, getattr(self, name), int)
            if not 1 <= size <= 10_000_000:
                raise ConfigError(f"{name} must lie between 1 and 10,000,000, got {size}")
        checked("raw_angles", self.raw_angles, bool)
        bases = {"network": NetworkSpec, "likelihood": LikelihoodSpec, "posterior": PosteriorSpec, "prior": PriorSpec}
        for name, base in bases.items():
            if not isinstance(value := getattr(self, name), base):
                raise ConfigError(f"{name} must be a {base.__name__}, got {value!r:.80}")
        self._check_latent_distributions()

    @property
    def sizes(self) -> str:
        """Of the layers of the encoder, as 784-500-2."""
        return "-".join(part for part in (str(self.data_dim), self.network.sizes, str(self.latent_dim)) if part)

    def _check_latent_distributions(self) -> None:
        q, p = self.posterior, self.prior
        family = FAMILIES[q.support_of]
        if self.latent_dim < 2 and "simplex" in (family.support, FAMILIES[p.support_of or "normal"].support):
            raise ConfigError(
                "a dirichlet latent sums to 1, so it needs latent_dim >= 2: of one number nothing is left"
            )
        if p.support_of is None and any(family.movable):
            raise ConfigError(
                f"the posterior {q.kind!r} moves the edges of its support, so that the prior {p.kind!r}, a mixture "
                "of such posteriors, has no density at most z; choose a prior on the whole real line"
            )
        if p.support_of is not None and not family_lies_within(q.support_of, p.support_of):
            raise ConfigError(
                f"the posterior {q.kind!r} puts z where the prior {p.kind!r} has no density, and the KL "
                "between them is infinite; choose a prior whose support holds the posterior's, or prior 'vamp'"
            )
        if q.is_angle and not p.is_closed:
            closed = ", ".join(kind for kind in PRIORS.kinds if PRIORS[kind].is_closed)
            raise ConfigError(
                f"the posterior {q.kind!r} is one of angles, and the prior {p.kind!r} jumps between pi and "
                "-pi, where the circle is cut; no gradient through a sample of z knows of the jump. Choose one of the "
                f"priors {closed}"
            )

    def build(
        self,
        *,
        initialization: Initialization = "glorot",
        biases: Mapping[str, Float[Array, " _"]] | None = None,
        pseudo_inputs: Float[Array | np.ndarray, "K D"] | None = None,
        key: PRNGKeyArray,
    ) -> tuple[Decoder, Encoder]:
        """The generative and the recognition model at their initial parameters.

        With a prior that is made of the encoder the generative model still needs `tie(generative, recognition)` before
        it is asked for p(z).

        Args:
            initialization: of the weights.
            biases: of the decoder's raw outputs, by name; see `LikelihoodSpec.start`.
            pseudo_inputs: of the prior "vamp", shape (K, D): rows of the training data are a good start; None: noise.
            key: for the initial weights.
        """
        p_key, q_key = jax.random.split(key)
        around = Surroundings(self.latent_dim, self.data_dim, self.likelihood.mean_in_unit_interval, pseudo_inputs)
        # Folded, not split off: the two keys above do not depend on what prior there is.
        prior = self.prior.build(around, key=jax.random.fold_in(key, 2))
        shape = (self.data_dim, self.latent_dim, self.network)
        generative = Decoder(
            *shape,
            self.likelihood,
            initialization,
            biases=biases,
            prior=prior,
            angles=self.posterior.is_angle and not self.raw_angles,
            key=p_key,
        )
        return generative, Encoder(*shape, self.posterior, initialization, key=q_key)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: sizes, and each choice with its kind and its options.

        Raises:
            ConfigError: a choice is not registered, so that a file that names it could not be read.
        """
        for name, registry in _REGISTRIES.items():
            if not registry.holds(spec := getattr(self, name)) and not isinstance(spec, Modules):
                raise ConfigError(
                    f"the {name} {spec.kind!r} is one of your own and is not registered, so no file could name it; "
                    f"call aevb.models.{name.upper()[:-1]}{'IES' if name[-1] == 'y' else name[-1].upper() + 'S'}."
                    "register with its class first"
                )
        choices = {name: getattr(self, name).to_dict() for name in _REGISTRIES}
        return {
            "data_dim": self.data_dim, "latent_dim": self.latent_dim, **choices, "raw_angles": self.raw_angles,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, content: Any, network: NetworkSpec | None = None) -> "Vae":
        """What `to_dict` gave.

        Args:
            content: a table.
            network: the modules of a model that has some of one's own.

        Raises:
            ConfigError: it is not of that form, or names what is not registered.
        """
        names = {"data_dim", "latent_dim", "raw_angles", *_REGISTRIES}
        if not isinstance(content, Mapping) or set(content) != names:
            raise ConfigError(f"a model must be a table of {', '.join(sorted(names))}, got {str(content)[:80]}")
        tables = {name: content[name] for name in _REGISTRIES}
        is_own = isinstance(tables["network"], Mapping) and tables["network"].get("kind") == Modules.kind
        if is_own and network is None:
            raise ConfigError(
                f"its networks are modules of one's own, {tables['network'].get('name')}, and no file can say what "
                "a class does; give a pair of them, with any values, as network=(of_x, of_z)"
            )
        if network is not None and (not is_own or to_plain(network) != tables["network"]):
            raise ConfigError(f"its network is {tables['network']}, and network=... is {to_plain(network)}")
        choices: dict[str, Any] = {"network": network} if network is not None else {}
        choices |= {name: _REGISTRIES[name].from_dict(table) for name, table in tables.items() if name not in choices}
        return cls(
            checked("data_dim", content["data_dim"], int),
            checked("latent_dim", content["latent_dim"], int),
            **choices,
            raw_angles=checked("raw_angles", content["raw_angles"], bool),
        )


def choose_latents(posterior: PosteriorSpec | None, prior: PriorSpec | None) -> tuple[PosteriorSpec, PriorSpec]:
    """Where one of the two is None: a Gaussian posterior and the prior N(0, I), or else what has the other's support.

    A posterior of a family that does not live on the whole real line is given its own family's standard member: under
    N(0, I) a half-line costs log 2 nats a dimension for ever, and most of the prior's draws would be decoded from where
    no x ever was. So is one whose tails make its KL from N(0, I) infinite (Cauchy, Student's t). Where no member keeps
    to the standard one's edges: pareto and reciprocal are given the log-normal, which has a density wherever they lie
    and whose KL is finite for all of them; uniform and triangular, which can lie anywhere, N(0, I).

    Example:
        >>> [spec.kind for spec in choose_latents(None, standard("gamma")())]
        ['gamma', 'gamma']
    """
    if prior is None:
        prior = standard(_prior_for("normal" if posterior is None else posterior.support_of))()
    if posterior is None:
        of_prior = prior.support_of or "normal"
        family = next(name for name in ("normal", of_prior, "beta") if family_lies_within(name, of_prior))
        posterior = POSTERIORS.make("gaussian" if family == "normal" else family)
    return posterior, prior


def _prior_for(family: str) -> str:
    of = FAMILIES[family]
    if any(of.movable):
        return "log-normal" if of.support == "positive" else "normal"
    return "normal" if of.support == "real" and family not in _HEAVY else family
