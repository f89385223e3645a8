"""What a distribution must do, whoever wrote it."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from aevb.distributions import (
    Distribution,
    Reparameterized,
    has_analytic_kl,
    kl_divergence,
    rsample_and_log_prob,
    support_depends_on_parameters,
)

from ._compare import ROWS, SIGMA, check_compiled, first_difference, require, some_rows
from ._density import Draws, beyond, check_draws, check_mass, check_outside, check_score, one_dimension, rule_for
from ._path import check_path
from ._quadrature import edges_of, is_circle

Make = Callable[..., Distribution]


def check_distribution(
    make: Make, members: Mapping[str, ArrayLike], key: PRNGKeyArray, *, num_draws: int = 2000
) -> None:
    """Hold a family of distributions against what the library asks of it, in float64; nothing comes back if all is
    well.

    Draws lie in the support and have a finite density; outside an interval it is zero and never NaN; a density of one
    dimension integrates to one, and the draws are its own; compiled, under `vmap` and in a `lax.scan` the numbers are
    those of plain Python, and no two rows share their noise; a sample's log density and its derivative by each
    parameter are right; and so is the KL divergence, where one is registered.

    Args:
        make: of parameters by name, the distribution: a function, as none may outlive the traced one that it is made
            in.
        members: the parameters of a few members, two or so: for each name an array with one entry for each member.
        key: of the noise.
        num_draws: of each member. Means are held to five standard errors.

    Raises:
        AssertionError: something is amiss; says what, of which member, and what to do.

    Example:
        >>> from aevb.distributions import Normal
        >>> check_distribution(Normal, {"loc": [0.0, 1.0], "scale": [1.0, 0.3]}, jax.random.key(0))
    """
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Out-of-support")  # that is the question
        values = {name: jnp.asarray(value, float) for name, value in members.items()}
        total = len(next(iter(values.values())))
        for start in range(0, total, ROWS - 1):  # so that one of them stands in two rows, with two keys
            part = {name: value[start : start + ROWS - 1] for name, value in values.items()}
            _Family(make, part, min(ROWS - 1, total - start), jax.random.fold_in(key, start), num_draws).check()


_NUM_JACOBIANS = 20  # at which a map's log_det is held against its derivatives


class _Family:
    def __init__(self, make: Make, values: dict[str, Array], num_members: int, key: PRNGKeyArray, num_draws: int):
        first = make(**{name: value[0] for name, value in values.items()})
        self.who = type(first).__name__
        require(
            isinstance(first, Distribution),
            f"the function must make a distribution, but it made {type(first).__name__}",
        )
        self.who = type(first.base_dist if hasattr(first, "reinterpreted_batch_ndims") else first).__name__
        require(
            first.batch_shape == (),
            f"{self.who} must be one distribution, but has batch shape {first.batch_shape}; give each parameter one "
            f"entry for each member, or add .to_event({len(first.batch_shape)})",
        )
        self.make, self.num_draws, self.num_members = make, num_draws, num_members
        self.event_shape, self.discrete = first.event_shape, first.support.is_discrete
        self.moves = support_depends_on_parameters(first)
        self.has_path = first.has_rsample
        self.has_density = not (isinstance(first, Reparameterized) and first.inverse is None)
        self.single = one_dimension(first.event_shape, first.support, edges_of(first.support)) and self.has_density
        self.circle = is_circle(first.support)
        self.many = some_rows(values, num_members)
        self.keys = jax.random.split(key, ROWS)

    def check(self) -> None:
        blank = np.full((ROWS, 2007 if self.single else 1), np.inf)
        told, more = self.ask(self.many, blank)
        require(
            not np.array_equal(told["z"][0], told["z"][self.num_members]),
            f"{self.who}: two rows draw the same samples from different keys; draw with the key that is given",
        )
        if self.has_path and self.has_density:
            difference = first_difference(told["log q of rsample"], told["log q"])
            require(not difference, f"{self.who}: rsample_and_log_prob and log_prob at its sample differ: {difference}")
        draws = [self.draws_of(told, i) for i in range(self.num_members)]
        for i, drawn in enumerate(draws):
            require(
                drawn.z.shape == (self.num_draws, *self.event_shape), f"{self.who}: samples have shape {drawn.z.shape}"
            )
            check_draws(self.who, i, drawn, told["inside"][i])
            if "log_det" in told:
                difference = first_difference(told["log_det"][i], told["log |det dg/deps|"][i])
                require(
                    not difference,
                    f"{self.who}: of member {i}, log_det(eps) is not log |det dg/deps|: {difference}; leave log_det "
                    "out, or mend it",
                )
            if self.has_density and not self.moves:
                check_score(self.who, i, {name: score[i] for name, score in more["score"].items()})
        if self.single:
            self.check_density(draws)
        if self.has_path:
            self.check_paths(told, more)
        self.check_kl()

    def ask(self, many: dict[str, Array], points: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
        """The numbers of all rows, by the one compiled program, which the first call holds against plain Python."""
        rows = (many, self.keys, jnp.asarray(points))
        if not hasattr(self, "program"):
            # Fewer draws would be other shapes, and another program.
            values, more, self.program = check_compiled(self.who, self.values, (), rows, self.values_and_slopes)
        else:
            values, more = self.program((), rows)
        return jax.tree.map(np.asarray, (values, more))

    def values(self, fixed: Any, one: Any) -> dict[str, Any]:
        """What one member tells."""
        parameters, key, points = one
        q = self.make(**parameters)
        if self.has_path:
            z, log_q = rsample_and_log_prob(q, key, (self.num_draws,))
            found = {"z": z, "log q of rsample": log_q, "log q": q.log_prob(z) if self.has_density else log_q}
        else:
            z = q.sample(key, (self.num_draws,))
            found = {"z": z, "log q": q.log_prob(z)}
        found["inside"] = q.support(z)
        if isinstance(q, Reparameterized):
            eps = q.noise.sample(key, (_NUM_JACOBIANS,))
            found["log_det"] = jax.vmap(q.log_det)(eps)
            found["log |det dg/deps|"] = jax.vmap(q.log_det_of_jacobian)(eps)
        if self.single:
            found["at points"] = q.log_prob(points.reshape(-1, *self.event_shape))
            lower, upper = (-jnp.pi, jnp.pi) if self.circle else (edges_of(q.support) or (-jnp.inf, jnp.inf))
            found["edges"] = jnp.stack([jnp.asarray(edge, float).reshape(()) for edge in (lower, upper)])
        return found

    def values_and_slopes(self, fixed: Any, one: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """And the derivatives by each parameter: of the samples, and of log q at the samples held fixed."""
        parameters, key, _ = one
        found = self.values(fixed, one)
        names = list(parameters)
        along = {
            name: {other: jnp.ones_like(value) * (other == name) for other, value in parameters.items()}
            for name in names
        }
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(along[name] for name in names))

        def slopes(fn: Callable[[dict[str, Array]], Array]) -> dict[str, Array]:
            each = jax.vmap(lambda tangent: jax.jvp(fn, (parameters,), (tangent,))[1])(stacked)
            return {name: each[i] for i, name in enumerate(names)}

        more = {}
        if self.has_density:
            more["score"] = slopes(lambda values: self.make(**values).log_prob(jax.lax.stop_gradient(found["z"])))
        if self.has_path:
            more["path"] = slopes(lambda values: self.make(**values).rsample(key, (self.num_draws,)))
        return found, more

    def draws_of(self, told: dict[str, Any], i: int) -> Draws:
        edges = tuple(float(edge) for edge in told["edges"][i]) if self.single else None
        return Draws(told["z"][i], told["log q"][i], (edges[0], edges[1]) if edges else None)

    def check_density(self, draws: list[Draws]) -> None:
        rules = [rule_for(draws[i % self.num_members]) for i in range(ROWS)]
        outside = [beyond(draws[i % self.num_members].edges or (-np.inf, np.inf)) for i in range(ROWS)]
        told, _ = self.ask(
            self.many, np.array([[*r.points, *o] for r, o in zip(rules, outside, strict=True)]).reshape(ROWS, -1)
        )
        for i, drawn in enumerate(draws):
            log_q = told["at points"][i].reshape(-1)
            if not self.circle:
                check_outside(self.who, i, outside[i], log_q[len(rules[i].points) :])
            check_mass(self.who, i, drawn, rules[i], log_q[: len(rules[i].points)])

    def check_paths(self, told: dict[str, Any], more: dict[str, Any]) -> None:
        blank = np.full((ROWS, 2007 if self.single else 1), np.inf)
        for name, value in self.many.items():
            step = 1e-6 * max(1.0, float(jnp.max(jnp.abs(value))))
            up, down = (self.ask({**self.many, name: value + s}, blank)[0]["z"] for s in (step, -step))
            for i in range(self.num_members):
                score = None if self.moves or not self.has_density else more["score"][name][i]
                difference = (up[i] - down[i]) / (2 * step)
                check_path(
                    self.who,
                    i,
                    name,
                    z=told["z"][i],
                    slope=more["path"][name][i],
                    difference=difference,
                    score=score,
                    circle=self.circle,
                )

    def check_kl(self) -> None:
        if self.num_members < 2 or not self.has_density:
            return
        q, p = (self.make(**{name: value[i] for name, value in self.many.items()}) for i in (0, 1))
        if not has_analytic_kl(q, p):
            return
        exact = np.asarray(kl_divergence(q, p))
        require(exact.shape == (), f"{self.who}: its KL divergence has shape {exact.shape}, and must be one number")
        z = q.sample(self.keys[0], (10 * self.num_draws,))
        ratio = np.asarray(q.log_prob(z) - p.log_prob(z))
        mean, error = ratio.mean(), ratio.std(ddof=1) / np.sqrt(len(ratio)) if np.isfinite(ratio).all() else np.nan
        require(
            mean == exact if np.isinf(mean) or np.isinf(exact) else abs(mean - exact) <= SIGMA * error + 1e-9,
            f"{self.who}: the KL divergence of member 0 from member 1 is {exact:.6g} in closed form, and {mean:.6g} +- "
            f"{error:.2g} by draws",
        )
