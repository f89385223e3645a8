"""The four sections of a configuration, and the ranges of their fields."""

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, get_type_hints

from aevb._plain import checked
from aevb._spec import Own, Spec, kind_of
from aevb.errors import ConfigError

from . import _registries
from ._choices import Field, as_choice, choice, is_choice, plain_choice

# Spelled out here rather than imported, so that `aevb --help` need not load JAX; a test holds them equal.
InitializationName = Literal["glorot", "paper"]
BinarizationName = Literal["auto", "dynamic", "threshold", "none"]
ScalingName = Literal["auto", "none", "unit", "standardize"]

MOST = 10_000_000  # samples of a row, rows of a batch and the like


def _option(default: Any, help: str, keyword: str | None = None) -> Any:
    return field(default=default, metadata={"help": help, "keyword": keyword})


def keyword_of(f: Field) -> str:
    """The keyword and flag that a field goes by: its name, but where another section has it too."""
    keyword: str = f.metadata.get("keyword") or f.name
    return keyword


@dataclass(frozen=True)
class Section:
    """Fields that are checked when it is made; each has a text of help.

    Raises:
        ConfigError: a value has the wrong type, is out of range, or contradicts another.
    """

    name: ClassVar[str]  # of its table

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if is_choice(f):
                value = as_choice(f, value, self.options_of_names())
            else:
                value = checked(keyword_of(f), value, hints[f.name])
            object.__setattr__(self, f.name, value)
        self.check()

    def options_of_names(self) -> dict[str, Any]:
        """Options that a choice has where it is given by the name of its kind, and its kind has them."""
        return {}

    def check(self) -> None:
        """Raise a ConfigError for values that are out of range or contradict each other."""

    def require(self, condition: bool, name: str, what: str) -> None:
        """Refuse a value: `what` it must be."""
        if not condition:
            raise ConfigError(f"{keyword_of(self.__dataclass_fields__[name])} {what}, got {getattr(self, name)!r}")

    def require_range(self, name: str, least: int, most: int = MOST) -> None:
        """Refuse a number that is below the least or above the most."""
        value = getattr(self, name)
        if value is None:
            return
        self.require(value >= least, name, "must not be negative" if least == 0 else f"must be at least {least}")
        self.require(value <= most, name, f"must be at most {most:,}")

    def to_dict(self) -> dict[str, Any]:
        """As TOML and JSON have it. A field that is None is left out."""
        values = {f.name: (f, getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {name: plain_choice(f, v) if is_choice(f) else v for name, (f, v) in values.items() if v is not None}

    def without_objects(self) -> Self:
        """With names in the place of objects that no file can hold."""
        choices = {f.name: plain_choice(f, getattr(self, f.name)) for f in dataclasses.fields(self) if is_choice(f)}
        return dataclasses.replace(self, **choices)


@dataclass(frozen=True)
class Data(Section):
    """What to fit to, and how it is seen."""

    name: ClassVar[str] = "data"
    source: str = _option("", "data name (mnist) or path (.npy .npz .csv IDX)", keyword="data")
    validation: float | str | None = _option(
        None, "held-out share of the training rows (0: none), or a path; unset: 0.1, or none where that is no row"
    )
    test: str = _option("", "path of test data; mnist brings its own")
    binarization: BinarizationName = _option("auto", "of pixels for bernoulli; none: grey values, no likelihood then")
    scaling: ScalingName = _option("auto", "of the data; unit: 0-255 to 0-1; standardize: each column")

    def check(self) -> None:
        """The share, or the path."""
        if isinstance(self.validation, str) and (percent := re.fullmatch(r"\s*(\d+\.?\d*)\s*%\s*", self.validation)):
            share = f"{float(percent[1]) / 100:g}"
            raise ConfigError(
                f"validation={self.validation!r} is no path; write the share as a number: validation={share}"
            )
        if isinstance(self.validation, float):
            self.require(0 <= self.validation < 1, "validation", "as a share must be at least 0 and less than 1")


@dataclass(frozen=True)
class Model(Section):
    """A variational auto-encoder: p(z), p(x | z) and q(z | x).

    `network` may be a pair of callable modules of one's own, from x and from z to a vector h each.
    """

    name: ClassVar[str] = "model"
    latent_dim: int = _option(2, "dimensions of z")
    network: Spec | str | tuple[Any, Any] = choice(_registries.networks, "mlp", "of encoder and decoder")
    likelihood: Spec | str = choice(
        _registries.likelihoods,
        "auto",
        "p(x | z); auto: bernoulli for binary data and images (by shape, or uint8), gaussian for tables",
        auto_options=("sigmoid_mean", "min_scale"),
    )
    posterior: Spec | str = choice(
        _registries.posteriors, "auto", "q(z | x); auto: gaussian, or what lies where the prior has a density"
    )
    prior: Spec | str = choice(
        _registries.priors,
        "auto",
        "p(z); auto: normal, or the posterior's own family where it is not on R or has heavy tails",
    )
    initialization: InitializationName = _option("glorot", "of the weights; paper: N(0, 0.01^2)")
    data_bias: bool = _option(True, "start the decoder's output at the training mean")

    def __post_init__(self) -> None:
        if isinstance(self.network, tuple | list) and len(self.network) == 2:
            from aevb.models import Modules

            object.__setattr__(self, "network", Modules(*self.network))
        super().__post_init__()

    def options_of_names(self) -> dict[str, Any]:
        """A flow that is given by its name has the activation of the network."""
        activation = getattr(self.network, "activation", None)
        return {} if activation is None else {"activation": activation}

    def check(self) -> None:
        """The size; the rest is checked by what the sections say together."""
        self.require_range("latent_dim", 1)


@dataclass(frozen=True)
class Training(Section):
    """How to fit it.

    `estimator` may be an `aevb.estimators.AbstractEstimator` of one's own, and in `fit_model` `optimizer` an Optax
    gradient transformation; a file keeps no more than their names.
    """

    name: ClassVar[str] = "training"
    estimator: Any = choice(
        _registries.estimators,
        "auto",
        "of the bound; auto: sgvb-b where the KL has a closed form, else sgvb-a",
        auto_options=("num_samples",),
    )
    kl_weight: float = _option(1.0, "beta of a beta-VAE: weight of the KL in the objective, which is no bound then")
    free_bits: float = _option(0.0, "nats of KL that each group of latent dimensions has for nothing; no bound then")
    free_bits_group: int = _option(1, "latent dimensions in such a group")
    parameter_prior: bool = _option(False, "the paper's MAP prior N(0, I) on weight matrices")
    kl_warmup: int = _option(0, "epochs over which the KL's weight in the objective rises from 0 to kl_weight")
    epochs: int = _option(30, "passes over the training rows")
    batch_size: int | None = _option(None, "rows per step, M; unset: 100, or all rows where there are fewer")
    optimizer: Any = choice(_registries.optimizers, "adam", "one of Optax's")
    learning_rate: float = _option(0.001, "at the first step")
    learning_rate_schedule: Spec | str = choice(
        _registries.schedules, "constant", "how the learning rate goes down over the run"
    )
    early_stopping: int = _option(
        0, "stop after so many epochs without a better validation bound, keep the best; 0: off"
    )
    seed: int = _option(0, "of everything random in the fit")

    def to_dict(self) -> dict[str, Any]:
        """As TOML and JSON have it; without the learning rate that an optimiser of one's own does not look at."""
        plain = super().to_dict()
        if not isinstance(self.optimizer, Spec) or self.optimizer.kind == Own.kind:
            del plain["learning_rate"], plain["learning_rate_schedule"]
        return plain

    @property
    def weighs_terms(self) -> bool:
        """Whether the objective is not the estimator's bound, but its two terms weighed against each other."""
        return bool(self.kl_weight != 1.0 or self.kl_warmup or self.free_bits)

    def check(self) -> None:
        """Ranges, and what needs something else."""
        self.require_range("epochs", 1, 10**9)
        self.require_range("batch_size", 1)
        self.require_range("free_bits_group", 1)
        self.require_range("kl_warmup", 0, 10**9)
        self.require_range("early_stopping", 0, 10**9)
        self.require(self.seed >= 0, "seed", "must not be negative")
        self.require(self.seed < 2**63, "seed", "must be below 2^63")
        for name in ("kl_weight", "free_bits"):
            self.require(0 <= getattr(self, name) < float("inf"), name, "must be finite and not negative")
        self.require(0 < self.learning_rate < float("inf"), "learning_rate", "must be positive and finite")
        self.require(
            self.kl_warmup <= self.epochs, "kl_warmup", f"must not be longer than the run of {self.epochs} epochs"
        )
        self.require(
            self.free_bits_group == 1 or self.free_bits > 0,
            "free_bits_group",
            "is an option of free_bits above 0 alone",
        )
        for f in dataclasses.fields(self) if not isinstance(self.optimizer, Spec) else ():
            given = getattr(self, f.name)
            if f.name in ("learning_rate", "learning_rate_schedule") and f.default not in (given, kind_of(given)):
                raise ConfigError(
                    f"{f.name} is of an optimizer by name; the one that was given has its own. Leave it out"
                )
        self.require(getattr(self.estimator, "num_samples", 1) <= MOST, "estimator", f"has more than {MOST:,} samples")
        if self.weighs_terms and not getattr(self.estimator, "differentiable_terms", True):
            raise ConfigError(
                f"estimator {self.estimator.kind!r} does not tell a reconstruction term and a KL apart, as kl_weight, "
                "kl_warmup and free_bits need; use sgvb-a, sgvb-b or stl with them"
            )


@dataclass(frozen=True)
class Evaluation(Section):
    """What is computed at the end."""

    name: ClassVar[str] = "evaluation"
    num_samples: int = _option(
        100,
        "samples per row for log p(x) at the end, above two latent dimensions; 0: skip it",
        keyword="evaluation_samples",
    )

    def check(self) -> None:
        """The number of samples."""
        self.require_range("num_samples", 0)


SECTIONS: dict[str, type[Section]] = {cls.name: cls for cls in (Data, Model, Training, Evaluation)}
