"""A latent in layers: one distribution over the joined vector, of which each layer is drawn given those before it."""

import functools
import numbers
import operator
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Real
from numpyro.distributions import constraints

from ._reparameterize import AsDrawn, Reparameterized, SelfDrawn, as_drawn, drawn_and_log_prob
from ._support import has_point_mass, is_fixed, is_whole, support_depends_on_parameters

_T = TypeVar("_T")
Factor: TypeAlias = Any  # a distribution, or a function that makes one of a Mapping[str, Array]


class Sequential(SelfDrawn):
    r"""q(z) = prod_i q(z_i | what was drawn before z_i), over ONE vector z of all layers.

    Two orders, which have nothing to do with each other: `sizes` says where each layer lies in z, and must be the same
    in the posterior and the prior; `factors` says in which order the layers are drawn, and may differ. So q(h1 | x)
    q(h2 | h1) and p(h2) p(h1 | h2) are two distributions over the same z = (h1, h2), and log q(z | x) can be held
    against log p(z). Reparameterised where all factors are: gradients flow through what was drawn before.

    As any distribution, it lives in one traced, per-example function only: make it anew in `posterior(x)`.

    Args:
        sizes: name -> length of each layer, in the order of z; `split_layers` takes z apart by it.
        factors: name -> q(z_i | ...), in the order of drawing: a distribution over (length,), or a function that makes
            one of what was drawn before, a mapping from names to arrays.

    Raises:
        ValueError: sizes and factors have not the same names; a factor is not over its layer's shape, or is several
            distributions, or asks for a layer that is not drawn before it.
        TypeError: a factor is, or returns, no distribution.

    Example:
        >>> sizes = {"h1": 2, "h2": 1}
        >>> normal = lambda loc: dist.Normal(loc, 1.0).to_event(1)
        >>> q = Sequential(sizes, {"h1": normal(jnp.ones(2)), "h2": lambda drawn: normal(drawn["h1"][:1])})
        >>> p = Sequential(sizes, {"h2": normal(jnp.zeros(1)), "h1": lambda drawn: normal(jnp.tile(drawn["h2"], 2))})
        >>> z = jnp.array([1.0, 1.0, 2.0])
        >>> print(f"{q.log_prob(z):.3f} {p.log_prob(z):.3f}", split_layers(z, sizes)["h2"])
        -3.257 -5.757 [2.]
    """

    def __init__(self, sizes: Mapping[str, int], factors: Mapping[str, Factor]):
        if not sizes or any(not isinstance(size, numbers.Integral) or size < 1 for size in sizes.values()):
            raise ValueError(f"every layer needs a length of at least 1, in whole numbers, got {dict(sizes)}")
        if set(sizes) != set(factors):
            raise ValueError(
                f"the layers of z are {', '.join(sizes)}, but there are factors of {', '.join(factors) or 'none'}; "
                "give each layer one length and one factor"
            )
        for name, factor in factors.items():
            if not callable(factor):  # as a distribution is, too
                raise TypeError(_no_distribution(name, factor))
        self.sizes, self.factors = {name: int(size) for name, size in sizes.items()}, dict(factors)
        # Which of those drawn before it each factor asks for.
        self.given: dict[str, frozenset[str]] = {}
        self._facts: dict[str, _Facts] = {}
        shape = (sum(self.sizes.values()),)
        jax.eval_shape(lambda: self._look_at(jnp.zeros(shape)))  # checks the shapes; nothing is computed
        super().__init__((), shape)

    @property
    def layout(self) -> str:
        """Where each layer lies in z, to be told: names and lengths in z's order."""
        return ", ".join(f"{name} ({size})" for name, size in self.sizes.items())

    @property
    def has_rsample(self) -> bool:
        """Whether every factor is reparameterised."""
        return all(facts.has_rsample for facts in self._facts.values())

    @property
    def support(self) -> constraints.Constraint | None:
        """Where z can lie; None where a factor's support is of several coordinates together, or may move."""
        of = [self._facts[name].support for name in self.sizes]
        if any(support is None for support in of):
            return None
        if all(support is constraints.real for support in of):
            return constraints.independent(constraints.real, 1)
        return constraints.cat(of, dim=-1, lengths=list(self.sizes.values()))

    @property
    def support_moves(self) -> bool:
        """Whether parameters, or what was drawn before, move the edge of a factor's support."""
        return any(facts.support_moves for facts in self._facts.values())

    @property
    def holds_point_mass(self) -> bool:
        """Whether a factor is a point."""
        return any(facts.holds_point_mass for facts in self._facts.values())

    @property
    def slow_density(self) -> bool:
        """Whether log q at a z that was not drawn here is slow to tell, or unknown, as of a flow without an inverse."""
        return any(facts.slow_density for facts in self._facts.values())

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Real[Array, "*shape"]:
        """Layer after layer, of shape (*sample_shape, *event)."""
        return self._over_keys(lambda keys: self._draw(keys, lambda d, key: d.sample(key))[0], key, sample_shape)

    def log_prob(
        self, value: Real[Array | np.ndarray, "*shape"], intermediates: object = None
    ) -> Float[Array, "*samples"]:
        """sum_i log q(z_i | what was drawn before), in nats."""
        return _total(self.log_prob_per_layer(value).values())

    def log_prob_per_layer(self, value: Real[Array | np.ndarray, "*shape"]) -> dict[str, Float[Array, "*samples"]]:
        """log q(z_i | what was drawn before) of each layer, in the order of z; their sum is `log_prob`."""

        def of(z: Array) -> dict[str, Array]:
            parts = split_layers(z, self.sizes)
            told = self._walk(lambda i, name, d: (parts[name], d.log_prob(parts[name])))[1]
            return OrderedDict((name, told[name]) for name in self.sizes)  # JAX would sort the names of a dict

        return self._over_samples(of, jnp.asarray(value))

    def drawn_and_log_prob(
        self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*samples"]]:
        """The u of `as_drawn` and log q(z), from the same noise: no map is inverted."""

        def of(keys: Array) -> tuple[Array, Array]:
            def draw(i: int, name: str, d: dist.Distribution) -> tuple[Array, tuple[Array, Array]]:
                u, log_q = drawn_and_log_prob(d, keys[i])
                return as_drawn(d).value(u), (u, log_q)

            told = self._walk(draw)[1]
            return self._join({name: u for name, (u, _) in told.items()}), _total(log_q for _, log_q in told.values())

        return self._over_keys(of, key, sample_shape)

    def as_drawn(self) -> AsDrawn:
        """Each layer in the coordinate that it is drawn in."""

        def sample(key: PRNGKeyArray, sample_shape: tuple[int, ...]) -> Array:
            def draw(d: dist.Distribution, key: Array) -> Array:
                return as_drawn(d).sample(key, ())

            return self._over_keys(lambda keys: self._draw(keys, draw, drawn=True)[1], key, sample_shape)

        def walk(u: Array, tell: Callable[[AsDrawn, Array], _T]) -> tuple[dict[str, Array], dict[str, _T]]:
            parts = split_layers(u, self.sizes)

            def of(i: int, name: str, d: dist.Distribution) -> tuple[Array, _T]:
                draws = as_drawn(d)
                return draws.value(parts[name]), tell(draws, parts[name])

            return self._walk(of)

        def value(u: Array) -> Array:
            return self._join(walk(u, lambda draws, part: None)[0])

        def log_prob(u: Array) -> Array:
            return _total(walk(u, lambda draws, part: draws.log_prob(part))[1].values())

        def held(u: Array) -> Bool[Array, ""]:
            return functools.reduce(operator.or_, walk(u, lambda draws, part: draws.held(part))[1].values())

        return AsDrawn(sample, lambda u: self._over_samples(value, u), lambda u: self._over_samples(log_prob, u), held)

    def each_factor(self, key: PRNGKeyArray, tell: Callable[[dist.Distribution], _T]) -> dict[str, _T]:
        """What a function tells of each factor along ONE draw of z, in the order of z."""
        keys = jax.random.split(key, len(self.factors))
        told = self._walk(lambda i, name, d: (d.sample(keys[i]), tell(d)))[1]
        return OrderedDict((name, told[name]) for name in self.sizes)

    # --- one z --------------------------------------------------------------------------------------------------------

    def _walk(
        self, step: Callable[[int, str, dist.Distribution], tuple[Array, _T]]
    ) -> tuple[dict[str, Array], dict[str, _T]]:
        """From factor to factor; `step` gives a layer's z_i, and what it has to tell."""
        drawn: dict[str, Array] = {}
        told: dict[str, _T] = {}
        for i, (name, factor) in enumerate(self.factors.items()):
            before = _Drawn(name, drawn)
            d = factor if isinstance(factor, dist.Distribution) else factor(before)
            self.given.setdefault(name, frozenset(before.asked))
            drawn[name], told[name] = step(i, name, d)
        return drawn, told

    def _draw(
        self, keys: Array, draw: Callable[[dist.Distribution, Array], Array], *, drawn: bool = False
    ) -> tuple[Array, Array]:
        """z of one draw, and what was drawn for it, which is u where `drawn`."""

        def step(i: int, name: str, d: dist.Distribution) -> tuple[Array, Array]:
            u = draw(d, keys[i])
            return (as_drawn(d).value(u) if drawn else u), u

        parts, told = self._walk(step)
        return self._join(parts), self._join(told)

    def _join(self, parts: Mapping[str, Array]) -> Array:
        return jnp.concatenate([parts[name] for name in self.sizes])

    def _look_at(self, z: Array) -> Array:
        """Hold each factor against its layer, and keep what shapes tell."""
        parts = split_layers(z, self.sizes)

        def look(i: int, name: str, d: Any) -> tuple[Array, None]:
            if not isinstance(d, dist.Distribution):
                raise TypeError(_no_distribution(name, d))
            size = self.sizes[name]
            if d.batch_shape != ():
                raise ValueError(
                    f"the factor of layer {name} must be one distribution over ({size},), but is {type(d).__name__} "
                    f"with batch shape {d.batch_shape} and event shape {d.event_shape}; add "
                    f".to_event({len(d.batch_shape)})"
                )
            if d.event_shape != (size,):
                raise ValueError(
                    f"the factor of layer {name} is over shape {d.event_shape}, but the layer has the length {size}; "
                    "give the two the same length"
                )
            self._facts[name] = _Facts(d)
            return parts[name], None

        self._walk(look)
        return z

    def _over_keys(self, function: Callable[[Array], _T], key: Array, sample_shape: tuple[int, ...]) -> _T:
        """A function of the keys of one draw, one a factor. They are split once: XLA takes long to compile a split."""
        keys = jax.random.split(key, (*sample_shape, len(self.factors)))
        if all(n == 1 for n in sample_shape):  # one draw goes without an axis of its own, which costs XLA transposes
            single, one = (1,) * len(sample_shape), function(keys.reshape(-1))
            return jax.tree.map(lambda leaf: leaf.reshape(single + leaf.shape), one)
        for _ in sample_shape:
            function = jax.vmap(function)
        return function(keys)

    def _over_samples(self, function: Callable[[Array], _T], values: Array) -> _T:
        """A function of one z, for each of them."""
        samples = values.shape[:-1]
        if all(n == 1 for n in samples):
            one = function(values.reshape(values.shape[-1:]))
            return jax.tree.map(lambda leaf: leaf.reshape(samples + leaf.shape), one)
        for _ in samples:
            function = jax.vmap(function)
        return function(values)


def split_layers(z: Real[Array | np.ndarray, "*shape"], sizes: Mapping[str, int]) -> dict[str, Real[Array, "..."]]:
    """The layers of a joined z, of shape (..., sum of the sizes), by name: views of its last axis.

    Raises:
        ValueError: z is longer or shorter than all layers together.

    Example:
        >>> print(split_layers(jnp.arange(3.0), {"h1": 2, "h2": 1})["h1"])
        [0. 1.]
    """
    z, total = jnp.asarray(z), sum(sizes.values())
    if z.ndim < 1 or z.shape[-1] != total:
        raise ValueError(f"z of the layers {dict(sizes)} must end with an axis of {total}, but has shape {z.shape}")
    parts, start = {}, 0
    for name, size in sizes.items():
        parts[name] = z[..., start : start + size]
        start += size
    return parts


def log_ratio_per_layer(
    q: dist.Distribution, p: dist.Distribution, z: Real[Array | np.ndarray, "*shape"]
) -> dict[str, Float[Array, "*samples"]] | None:
    """log q(z_i | ...) - log p(z_i | ...) of each layer, in nats; they sum to log q(z) - log p(z).

    Each factor is asked given what its own distribution has drawn before. None unless both have layers.

    Raises:
        ValueError: the two lay z out differently.
    """
    if not (isinstance(q, Sequential) and isinstance(p, Sequential)):
        return None
    if list(q.sizes.items()) != list(p.sizes.items()):
        raise ValueError(
            f"one lays z out as {q.layout}, the other as {p.layout}; give both the same layers in one order"
        )
    log_q, log_p = q.log_prob_per_layer(z), p.log_prob_per_layer(z)
    return OrderedDict((name, log_q[name] - log_p[name]) for name in q.sizes)


def divergent_layers(q: Sequential, p: Sequential) -> tuple[str, ...]:
    """The layers whose `log_ratio_per_layer` is a divergence in expectation under q, and never negative there.

    E_q[log q(z_i | a) - log p(z_i | b)] = E_q[D_KL(q(z_i | a) || p(z_i | b))] if all that p's factor asks for, b, is
    drawn before z_i in q. Else z_i and b come from q together, and the term can be negative.

    Example:
        >>> sizes, normal = {"h1": 1, "h2": 1}, dist.Normal(jnp.zeros(1), 1.0).to_event(1)
        >>> on = lambda name: lambda drawn: dist.Normal(drawn[name], 1.0).to_event(1)
        >>> q = Sequential(sizes, {"h1": normal, "h2": on("h1")})
        >>> divergent_layers(q, Sequential(sizes, {"h2": normal, "h1": on("h2")}))
        ('h2',)
    """
    order = list(q.factors)
    return tuple(name for name in q.sizes if p.given[name] <= set(order[: order.index(name)]))


def _no_distribution(layer: str, found: Any) -> str:
    return (
        f"the factor of layer {layer} must be a distribution, or a function that makes one of what was drawn before, "
        f"but is, or makes, {type(found).__name__}"
    )


def _total(numbers: Iterable[Array]) -> Array:
    return functools.reduce(operator.add, numbers)


class _Facts:
    """What a factor tells by shapes alone. No arrays: those of a trace must not leave it."""

    def __init__(self, d: dist.Distribution):
        self.has_rsample = bool(d.has_rsample)
        self.support_moves = support_depends_on_parameters(d)
        self.holds_point_mass = has_point_mass(d)
        no_inverse = isinstance(d, Reparameterized) and d.inverse is None
        self.slow_density = bool(getattr(d, "slow_density", False)) or no_inverse
        support = d.support
        if isinstance(support, constraints.Constraint) and is_whole(support):
            support = constraints.real
        while isinstance(support, constraints.independent):
            support = support.base_constraint
        known = isinstance(support, constraints.Constraint) and is_fixed(support) and support.event_dim == 0
        self.support = support if known else None


class _Drawn(Mapping[str, Array]):
    """What was drawn before a layer, which notes what its factor asks for."""

    def __init__(self, layer: str, drawn: Mapping[str, Array]):
        self.layer, self.drawn, self.asked = layer, dict(drawn), set[str]()

    def __getitem__(self, name: str) -> Array:
        if name not in self.drawn:
            raise ValueError(
                f"the factor of layer {self.layer} asks for {name!r}, which is not drawn before it; drawn are "
                f"{', '.join(self.drawn) or 'none'}: put the factors into the order in which they are drawn"
            )
        self.asked.add(name)
        return self.drawn[name]

    def __contains__(self, name: object) -> bool:
        return name in self.drawn

    def __iter__(self) -> Iterator[str]:
        return iter(self.drawn)

    def __len__(self) -> int:
        return len(self.drawn)
