"""Checks of one's own parts: what the library's own models, distributions, estimators, transforms and algorithms pass.

Each takes a part and a key, gives nothing back, and raises an `AssertionError` that says what was found and what to do.
They need no test runner: call them from a test of your own, or once in a notebook.
"""

from ._algorithm import check_algorithm as check_algorithm
from ._distribution import check_distribution as check_distribution
from ._estimator import check_estimator as check_estimator
from ._model import check_model as check_model
from ._spec import check_spec as check_spec
from ._transform import check_transform as check_transform
