"""The configuration of a fit in four sections, and its names: the same as keywords, TOML keys and flags.

A choice (of a likelihood, an optimiser, ...) is an object, a spec or an estimator, which has the options of its kind
and no others. It can be given as the object, by the name of its kind, or, as TOML has it, by a table of kind and
options. Nothing here imports JAX before the first `Config` is made: `aevb --help` need not wait for it.
"""

from ._choices import registry_of as registry_of
from ._choices import resolve as resolve
from ._config import Config as Config
from ._names import NAMES as NAMES
from ._names import Name as Name
from ._sections import SECTIONS as SECTIONS
from ._sections import Data as Data
from ._sections import Evaluation as Evaluation
from ._sections import Model as Model
from ._sections import Training as Training
