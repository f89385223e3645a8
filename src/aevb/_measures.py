"""What the numbers of a model are called, and in which units they are told."""

from aevb.data import Preprocessing
from aevb.models import Vae


def measures(preprocessing: Preprocessing | None) -> tuple[str, str, str]:
    """Names of the bound, its reconstruction term and its KL, for data that are prepared in this way."""
    if preprocessing is not None and preprocessing.grey:
        return ("grey_objective", "negative_cross_entropy", "kl")
    return ("elbo", "reconstruction", "kl")


def log_jacobian(spec: Vae, preprocessing: Preprocessing) -> float:
    """Nats to add to a log density of the data as the models see them, to have it in the data's own units."""
    if not spec.likelihood.has_density:
        return 0.0
    return preprocessing.log_jacobian(spec.data_dim)


def about_units(log_jacobian: float) -> str:
    """One sentence on the units of a table; empty where there is but one.

    Example:
        >>> about_units(-9.953)
        "Densities are in the data's own units; of the scaled data they are 9.95 nats higher."
    """
    if not log_jacobian:
        return ""
    way = "higher" if log_jacobian < 0 else "lower"
    return f"Densities are in the data's own units; of the scaled data they are {abs(log_jacobian):.2f} nats {way}."
