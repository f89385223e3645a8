"""What a report is to contain."""

import dataclasses
import numbers
from typing import Any, Literal, get_args

from aevb._arguments import MOST
from aevb.errors import ConfigError
from aevb.evaluate import Annealing

Method = Literal["auto", "elbo", "quadrature", "is", "ais", "hmc"]

# Names of the estimates of log p(x), in files and in words.
KEYS = {
    "quadrature": "quadrature_log_likelihood",
    "is": "importance_sampled_log_likelihood",
    "ais": "annealed_log_likelihood",
    "hmc": "harmonic_log_likelihood",
}
WORDS = {
    "elbo": "ELBO",
    "quadrature": "quadrature",
    "is": "importance sampling",
    "ais": "annealed importance sampling",
    "hmc": "HMC and the harmonic mean (Appendix D)",
}
LOW = ("is", "ais")  # methods whose estimate is not above log p(x) in expectation
GAP_ROWS = 50  # that are taken apart one by one
_NUM_SAMPLES = {"elbo": 0, "quadrature": 0, "is": 1000, "ais": 16, "hmc": 800}
# The Markov chain methods take seconds a row.
_NUM_ROWS = {"ais": 100, "hmc": 100}
# The settings that are not of every method.
_ONLY_OF = {
    "num_distributions": ("ais",),
    "num_leapfrog": ("ais", "hmc"),
    "schedule": ("ais",),
    "start": ("ais",),
    "num_simulated": ("ais",),
}


@dataclasses.dataclass(frozen=True)
class ReportSettings:
    """How log p(x) is estimated, and how much work goes into the diagnostics.

    Args:
        method: "auto": "quadrature" for one or two latent dimensions, and "is" for more or if `num_samples` are asked
            for; "elbo": the bound alone; "quadrature": on a grid refined to 0.001 nats; "is": importance sampling from
            a mixture of q(z | x), wider ones and p(z); "ais": annealed importance sampling by HMC; "hmc": the paper's
            Appendix D, for fewer than five latent dimensions.
        num_samples: importance samples, AIS chains, or posterior samples of each row. None: 1,000, 16, 800. Quadrature
            has none. 0: the bound alone.
        num_rows: rows for log p(x), drawn without replacement with a fixed key. None: all of them; 100 of them for
            "ais" and "hmc", which take seconds a row.
        num_distributions, num_leapfrog, schedule, start: of AIS (`num_leapfrog` of "hmc" too).
        num_simulated: rows simulated from the model for AIS' bidirectional gap.
        diagnostics: False: only the ELBO and log p(x).

    Raises:
        ConfigError: a value that cannot be, or one that the method makes no use of.
    """

    method: Method = "auto"
    num_samples: int | None = None
    num_rows: int | None = None
    num_distributions: int = 1000
    num_leapfrog: int = 10
    schedule: Literal["linear", "sigmoid"] = "sigmoid"
    start: Literal["prior", "encoder"] = "prior"
    num_simulated: int = 20
    diagnostics: bool = True

    def __post_init__(self) -> None:
        for name, choices in (
            ("method", Method),
            ("schedule", Literal["linear", "sigmoid"]),
            ("start", Literal["prior", "encoder"]),
        ):
            if getattr(self, name) not in get_args(choices):
                raise ConfigError(f"{name} must be one of {', '.join(get_args(choices))}, not {getattr(self, name)!r}")
        for name in ("num_samples", "num_rows", "num_distributions", "num_leapfrog", "num_simulated"):
            value = getattr(self, name)
            if value is None and name in ("num_samples", "num_rows"):
                continue
            if not isinstance(value, numbers.Integral) or isinstance(value, bool):
                raise ConfigError(f"{name} must be a whole number, got {value!r:.80}")
            object.__setattr__(self, name, int(value))  # JSON knows no integers of NumPy
        if not isinstance(self.diagnostics, bool):
            raise ConfigError(f"diagnostics must be True or False, got {self.diagnostics!r:.80}")
        if self.method == "quadrature" and self.num_samples:
            raise ConfigError(f"quadrature takes no samples, but num_samples = {self.num_samples}; use method is")
        for field in dataclasses.fields(self):
            methods, value = _ONLY_OF.get(field.name, get_args(Method)), getattr(self, field.name)
            if self.method not in methods and value != field.default:
                raise ConfigError(
                    f"{field.name}={value!r} is used by method {' or '.join(methods)} only, and the method is "
                    f"{self.method}; leave it out, or choose that method"
                )
        for name, least in (
            ("num_samples", 2 if self.method in ("ais", "hmc") else 0),
            ("num_rows", 1),
            ("num_distributions", 2),
            ("num_leapfrog", 1),
            ("num_simulated", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}")
            if value is not None and value > MOST and name != "num_rows":  # at most all of them are taken
                raise ConfigError(f"{name} must be at most {MOST:,}, got {value:,}")

    def resolved(self, total_rows: int, *, quadrature: bool) -> "ReportSettings":
        """With the numbers in place of None, for a data set of so many rows. No samples at all are method "elbo".

        Args:
            total_rows: of the data set.
            quadrature: whether the model allows it (`aevb.evaluate.has_quadrature`).
        """
        method = "elbo" if self.num_samples == 0 else self.method
        if method == "auto":
            method = "quadrature" if quadrature and self.num_samples is None else "is"
        num_samples = _NUM_SAMPLES[method] if self.num_samples is None else self.num_samples
        num_rows = _NUM_ROWS.get(method, total_rows) if self.num_rows is None else self.num_rows
        return dataclasses.replace(
            self,
            method=method,
            num_samples=0 if method in ("elbo", "quadrature") else num_samples,
            num_rows=min(num_rows, total_rows),
        )

    def annealing(self) -> Annealing:
        """What they say of annealed importance sampling. Of resolved settings."""
        assert self.num_samples is not None
        return Annealing(
            num_chains=self.num_samples,
            num_distributions=self.num_distributions,
            num_leapfrog=self.num_leapfrog,
            schedule=self.schedule,
            start=self.start,
        )

    def to_dict(self) -> dict[str, Any]:
        """Those that matter to the method."""
        values = dataclasses.asdict(self)
        for name, methods in _ONLY_OF.items():
            if self.method not in methods:
                del values[name]
        if self.method == "quadrature":
            del values["num_samples"]
        return values
