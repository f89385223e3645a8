"""The configuration of a fit: one frozen dataclass, the same names as flags, TOML keys and fields."""

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

import tomli_w

from aevb._plain import checked
from aevb.errors import ConfigError

# Spelled out here rather than imported, so that `aevb --help` need not load JAX; a test holds them equal.
ActivationName = Literal["tanh", "relu", "softplus", "elu", "gelu", "silu", "sigmoid"]
InitializationName = Literal["glorot", "paper"]
OptimizerName = Literal["adam", "adagrad", "rmsprop", "sgd"]
ScheduleName = Literal["constant", "linear", "cosine", "exponential"]
EstimatorName = Literal[
    "auto", "sgvb-a", "sgvb-b", "score", "stl", "iwae", "dreg", "vimco", "renyi", "miwae", "piwae", "ciwae"
]
BaselineName = Literal["none", "running-mean", "leave-one-out"]
FamilyName = Literal[
    "cauchy", "laplace", "logistic", "student-t", "gumbel", "uniform", "triangular", "exponential", "rayleigh",
    "weibull", "gompertz", "erlang", "gamma", "log-normal", "chi-squared", "f", "beta", "continuous-bernoulli",
    "dirichlet", "von-mises",
]  # fmt: skip
PosteriorName = Literal[
    "auto", "gaussian", "full-covariance", "iaf", "coupling", "elliptical", FamilyName, "pareto", "reciprocal"
]  # fmt: skip
PriorName = Literal["auto", "normal", "mixture", "vamp", "flow", FamilyName]
LikelihoodName = Literal[
    "auto", "bernoulli", "gaussian", "continuous-bernoulli", "discretized-logistic", "laplace", "student-t"
]
BinarizationName = Literal["auto", "dynamic", "threshold", "none"]
ScalingName = Literal["auto", "none", "unit", "standardize"]


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Config:
    """What to fit and how. Every field has a flag and a TOML key of the same name.

    `auto` is resolved from the data when a fit begins; a run directory's `config.toml` holds what it became.

    Raises:
        ConfigError: a value has the wrong type, is out of range, or contradicts another.

    Example:
        >>> Config(latent_dim=10, hidden=(500, 500)).hidden
        (500, 500)
    """

    data: str = _option("", "data name (mnist) or path (.npy .npz .csv IDX)")
    validation: float | str | None = _option(
        None, "held-out share of the training rows (0: none), or a path; unset: 0.1, or none where that is no row"
    )
    test: str = _option("", "path of test data; mnist brings its own")

    latent_dim: int = _option(2, "dimensions of z")
    hidden: tuple[int, ...] = _option((256, 256), "units of each hidden layer, the decoder's in reverse order")
    activation: ActivationName = _option("tanh", "of the hidden layers")
    initialization: InitializationName = _option("glorot", "of the weights; paper: N(0, 0.01^2)")
    likelihood: LikelihoodName = _option(
        "auto", "p(x | z); auto: bernoulli for binary data and images (by shape, or uint8), gaussian for tables"
    )
    sigmoid_mean: bool = _option(
        False,
        "gaussian, laplace, student-t, discretized-logistic: put the mean through a sigmoid (data in [0, 1])",
    )
    min_scale: float = _option(0.001, "the same: floor of the scale, in units of the scaled data")
    df: float = _option(4.0, "likelihood student-t: degrees of freedom, above 2; the fewer, the heavier the tails")
    data_bias: bool = _option(True, "start the decoder's output at the training mean")
    binarization: BinarizationName = _option("auto", "of pixels for bernoulli; none: grey values, no likelihood then")
    scaling: ScalingName = _option("auto", "of the data; unit: 0-255 to 0-1; standardize: each column")

    posterior: PosteriorName = _option("auto", "q(z | x); auto: gaussian, or what lies where the prior has a density")
    prior: PriorName = _option(
        "auto", "p(z); auto: normal, or the posterior's own family where it is not on R or has heavy tails"
    )
    prior_components: int = _option(100, "components of the mixture prior, pseudo-inputs of vamp")
    flow_steps: int = _option(4, "posterior iaf or coupling, prior flow: steps of the flow")
    flow_hidden: tuple[int, ...] = _option((128,), "the same: units of the hidden layers of each step's network")

    estimator: EstimatorName = _option("auto", "of the bound; auto: sgvb-b where the KL has a closed form, else sgvb-a")
    num_samples: int | None = _option(
        None, "latent samples per example and step, L or K; unset: 1, or 5 for bounds of K"
    )
    num_groups: int = _option(2, "miwae, piwae: groups of num_samples samples")
    alpha: float = _option(0.5, "renyi: order of the divergence; 1: ELBO, 0: iwae")
    ciwae_weight: float = _option(0.5, "ciwae: weight of the ELBO")
    baseline: BaselineName = _option("none", "score: what is subtracted from log w")
    kl_weight: float = _option(1.0, "beta of a beta-VAE: weight of the KL in the objective, which is no bound then")
    free_bits: float = _option(0.0, "nats of KL that each group of latent dimensions has for nothing; no bound then")
    free_bits_group: int = _option(1, "latent dimensions in such a group")
    parameter_prior: bool = _option(False, "the paper's MAP prior N(0, I) on weight matrices")
    kl_warmup: int = _option(0, "epochs over which the KL's weight in the objective rises from 0 to kl_weight")

    epochs: int = _option(30, "passes over the training rows")
    batch_size: int | None = _option(None, "rows per step, M; unset: 100, or all rows where there are fewer")
    optimizer: OptimizerName = _option("adam", "one of Optax's")
    learning_rate: float = _option(0.001, "at the first step")
    learning_rate_schedule: ScheduleName = _option("constant", "how the learning rate goes down over the run")
    beta1: float = _option(0.9, "adam: decay of the first moment")
    beta2: float = _option(0.999, "adam: decay of the second moment")
    decay: float = _option(0.9, "rmsprop: decay of the second moment")
    momentum: float = _option(0.0, "sgd, rmsprop: momentum")
    epsilon: float | None = _option(None, "adam, adagrad, rmsprop: epsilon; unset: 1e-8, rmsprop 1e-7")
    early_stopping: int = _option(
        0, "stop after so many epochs without a better validation bound, keep the best; 0: off"
    )

    evaluation_samples: int = _option(
        100, "samples per row for log p(x) at the end, above two latent dimensions; 0: skip it"
    )
    seed: int = _option(0, "of everything random in the fit")

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for f in dataclasses.fields(self):
            object.__setattr__(self, f.name, checked(f.name, getattr(self, f.name), hints[f.name]))
        for name in (
            "latent_dim", "num_samples", "epochs", "batch_size", "num_groups", "prior_components", "flow_steps",
            "free_bits_group",
        ):  # fmt: skip
            if getattr(self, name) is None:
                continue
            self._require(getattr(self, name) >= 1, name, "must be at least 1")
        for name in ("kl_warmup", "early_stopping", "evaluation_samples", "seed"):
            self._require(getattr(self, name) >= 0, name, "must not be negative")
        for name in ("latent_dim", "batch_size", "num_samples", "num_groups", "prior_components"):
            self._require((getattr(self, name) or 0) <= 10_000_000, name, "must be at most 10,000,000")
        self._require(self.flow_steps <= 1000, "flow_steps", "must be at most 1,000")
        self._require(self.seed < 2**63, "seed", "must be below 2^63")
        for name in ("hidden", "flow_hidden"):
            units = getattr(self, name)
            self._require(all(1 <= u <= 10_000_000 for u in units), name, "needs 1 to 10,000,000 units a layer")
        self._require(
            abs(self.alpha) < float("inf"), "alpha", "must be finite here (`aevb.estimators.Renyi` takes -inf)"
        )
        self._require(0 <= self.ciwae_weight <= 1, "ciwae_weight", "must lie in [0, 1]")
        for name in ("kl_weight", "free_bits"):
            self._require(0 <= getattr(self, name) < float("inf"), name, "must be finite and not negative")
        self._require(
            self.latent_dim % self.free_bits_group == 0, "free_bits_group", f"must divide latent_dim {self.latent_dim}"
        )
        self._refuse_idle_options()
        for name in ("learning_rate", "min_scale"):
            self._require(0 < getattr(self, name) < float("inf"), name, "must be positive and finite")
        for name in ("beta1", "beta2", "decay", "momentum"):
            self._require(0 <= getattr(self, name) < 1, name, "must be at least 0 and less than 1")
        self._require(self.epsilon is None or 0 <= self.epsilon < float("inf"), "epsilon", "must not be negative")
        if isinstance(self.validation, str) and (percent := re.fullmatch(r"\s*(\d+\.?\d*)\s*%\s*", self.validation)):
            share = f"{float(percent[1]) / 100:g}"
            raise ConfigError(
                f"validation={self.validation!r} is no path; write the share as a number: validation={share}"
            )
        if isinstance(self.validation, float):
            self._require(0 <= self.validation < 1, "validation", "as a share must be at least 0 and less than 1")
        self._require(
            self.kl_warmup <= self.epochs, "kl_warmup", f"must not be longer than the run of {self.epochs} epochs"
        )
        if self.early_stopping:
            self._require(
                self.validation not in (0.0, ""),
                "validation",
                "must be a share such as 0.1, or a path, when early_stopping is on",
            )

    def _refuse_idle_options(self) -> None:
        """An option that the chosen parts do not look at must not be changed: it would be ignored in silence."""
        flows = self.posterior in ("iaf", "coupling") or self.prior == "flow"
        used = {
            "num_groups": (self.estimator in ("miwae", "piwae"), "estimators miwae and piwae"),
            "alpha": (self.estimator == "renyi", "estimator renyi"),
            "ciwae_weight": (self.estimator == "ciwae", "estimator ciwae"),
            "baseline": (self.estimator == "score", "estimator score"),
            "prior_components": (self.prior in ("mixture", "vamp"), "priors mixture and vamp"),
            "flow_steps": (flows, "posteriors iaf and coupling and prior flow"),
            "flow_hidden": (flows, "posteriors iaf and coupling and prior flow"),
            "free_bits_group": (self.free_bits > 0, "free_bits above 0"),
            "df": (self.likelihood == "student-t", "likelihood student-t"),
        }
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        for name, (is_used, owner) in used.items():
            self._require(is_used or getattr(self, name) == defaults[name], name, f"is an option of {owner} alone")
        weighed = self.kl_weight != 1.0 or self.kl_warmup or self.free_bits
        self._require(
            not weighed or self.estimator in ("auto", "sgvb-a", "sgvb-b", "stl"),
            "estimator",
            "does not tell a reconstruction term and a KL apart, as kl_weight, kl_warmup and free_bits need; use "
            "sgvb-a, sgvb-b or stl with them",
        )

    def _require(self, condition: bool, name: str, what: str) -> None:
        if not condition:
            raise ConfigError(f"{name} {what}, got {getattr(self, name)!r}")

    def replace(self, **changes: Any) -> "Config":
        """A copy with some fields changed; an unknown name is a `ConfigError` that suggests the nearest one."""
        _refuse_unknown(changes, "keyword")
        return dataclasses.replace(self, **changes)

    def to_toml(self) -> str:
        """As TOML, one line per field. A field that is None is left out."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}
        return tomli_w.dumps({k: v for k, v in values.items() if v is not None})

    @classmethod
    def from_toml(cls, path: str | Path) -> "Config":
        """Read a TOML file; fields that it does not name keep their defaults.

        Raises:
            ConfigError: the file is missing, is no TOML, or has an unknown key or a bad value.
        """
        return cls.from_dict(read_toml(path), f"key in {path}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], what: str = "key") -> "Config":
        """From a mapping of field names to values, as TOML or JSON has them."""
        _refuse_unknown(values, what)
        return cls(**values)


def read_toml(path: str | Path) -> dict[str, Any]:
    """The keys and values of a TOML file of fields of `Config`.

    Raises:
        ConfigError: the file is missing, is no TOML, or has an unknown key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig", errors="surrogateescape")
        values = tomllib.loads(text)
    except OSError as e:
        raise ConfigError(f"cannot read the configuration file {path}: {e.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path} is not valid TOML: {e}") from None
    _refuse_unknown(values, f"key in {path}")
    return values


def _refuse_unknown(values: Mapping[str, Any], what: str) -> None:
    names = [f.name for f in dataclasses.fields(Config)]
    for name in values:
        if name not in names:
            close = difflib.get_close_matches(str(name).replace("-", "_"), names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(names)}"
            raise ConfigError(f"unknown {what}: {name!r}{hint}")
