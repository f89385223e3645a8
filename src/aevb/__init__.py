"""Deep latent-variable models by Auto-Encoding Variational Bayes (Kingma & Welling 2014).

`fit` takes data and a configuration and gives a fitted object; `load` reads one back from a file. What lies below,
`aevb.models`, `aevb.estimators`, `aevb.samplers`, `aevb.train` and `aevb.evaluate`, is for those who bring a model of
their own.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__
from .config import Config as Config
from .errors import AevbError as AevbError
from .errors import ConfigError as ConfigError
from .errors import DataError as DataError
from .errors import DivergenceError as DivergenceError
from .errors import GuessWarning as GuessWarning
from .errors import HeldOutWarning as HeldOutWarning
from .errors import ModelFileError as ModelFileError
from .errors import OutputError as OutputError

if TYPE_CHECKING:
    from . import data as data
    from . import distributions as distributions
    from . import estimators as estimators
    from . import evaluate as evaluate
    from . import models as models
    from . import plots as plots
    from . import reports as reports
    from . import samplers as samplers
    from . import testing as testing
    from . import train as train
    from ._feed import AbstractTransform as AbstractTransform
    from ._fit import fit as fit
    from ._fit import fit_model as fit_model
    from .fitted import FittedModel as FittedModel
    from .fitted import load as load

# Loaded at first use: JAX and NumPyro take seconds to import, and `aevb --help` needs neither.
_FUNCTIONS = {
    "AbstractTransform": "_feed",
    "fit": "_fit",
    "fit_model": "_fit",
    "FittedModel": "fitted",
    "load": "fitted",
}
_MODULES = (
    "data", "distributions", "estimators", "evaluate", "models", "plots", "reports", "samplers", "testing", "train",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f".{_FUNCTIONS[name]}", __name__), name)
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_FUNCTIONS, *_MODULES} - {"TYPE_CHECKING", "Any", "importlib"})
