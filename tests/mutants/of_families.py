"""Planted defects in the families of distributions and in the divergences between them."""

FAMILIES, KL, POSTERIORS = "unit/test_families.py", "unit/test_kl_pairs.py", "unit/test_posteriors.py"
LIKELIHOODS, TABLE, EDGES = "distributions/_likelihoods.py", "distributions/_families.py", "distributions/_dirichlet.py"
MOMENTS = f"{FAMILIES}::test_moments_of_the_discretized_logistic"
DRAWS = f"{FAMILIES}::test_location_and_scale_against_draws"


def density(name: str) -> str:
    return f"{FAMILIES}::test_density[float64-{name}]"


# name, file, old text, new text, the test that must fail
MUTANTS = [
    (
        "normaliser of the F left out",
        "distributions/_dirichlet.py",
        "constant + rest - jnp.sum(",
        "constant - jnp.sum(",
        density("f"),
    ),
    (
        "Jacobian of the log-normal left out",
        "distributions/_location_scale.py",
        "self.base_dist.log_prob(log_z) - log_z",
        "self.base_dist.log_prob(log_z)",
        density("log-normal"),
    ),
    (
        "log q of a log-normal at the held sample",
        "distributions/_reparameterize.py",
        "log_z.log_prob_of_log(u)",
        "log_z.log_prob(exp_within(u))",
        "unit/test_held_samples.py::test_elbo_and_gradient_are_those_of_the_draws[sgvb-a--60.0]",
    ),
    (
        "no implicit gradient of the gamma",
        "distributions/_gamma.py",
        "jnp.where(large, expansion, exact) * tangents[0]",
        "0.0 * exact * tangents[0]",
        f"{FAMILIES}::test_mean_of_a_gamma_moves_as_its_concentration[float64-2.5]",
    ),
    (
        "no implicit gradient of the von Mises",
        "distributions/_von_mises.py",
        "-jnp.sign(z) * integral * tangents[0]",
        "0.0 * integral * tangents[0]",
        f"{FAMILIES}::test_mean_direction_of_a_von_mises_moves_as_its_concentration[float64-3.0]",
    ),
    (
        "a Uniform's density outside of its interval",
        "distributions/_bounded.py",
        "jnp.where(inside, -jnp.log(self.width), -jnp.inf)",
        "jnp.where(inside, -jnp.log(self.width), -jnp.log(self.width))",
        f"{FAMILIES}::test_density_outside_the_support_is_zero[uniform]",
    ),
    (
        "Erlang with the rate for the scale",
        "distributions/_inverse_cdf.py",
        "-jnp.sum(jnp.log(u), axis=0) / self.rate",
        "-jnp.sum(jnp.log(u), axis=0) * self.rate",
        f"{FAMILIES}::test_sampler_follows_the_density[float64-erlang]",
    ),
    (
        "a Student's t quantile at the wrong tail",
        "distributions/_location_scale.py",
        "jnp.abs(2 * q - 1)",
        "jnp.abs(q - 0.5)",
        f"{FAMILIES}::test_a_posterior_without_moments_lies_at_its_median",
    ),
    (
        "KL of the gamma the other way round",
        "distributions/_kl_gamma.py",
        "return b * expm1_minus(log_r) + _rest(a, b)",
        "return a * expm1_minus(-log_r) + _rest(b, a)",
        f"{KL}::test_against_quadrature[float64-gamma]",
    ),
    (
        "KL of the von Mises without the angle",
        "distributions/_kl_rules.py",
        "(c - k) * gap + turn",
        "(c - k) * gap",
        f"{KL}::test_against_quadrature[float64-von-mises]",
    ),
    (
        "a Uniform that reaches outside has a finite KL",
        "distributions/_kl_rules.py",
        "jnp.log(_width(p)) - jnp.log(_width(q)), jnp.inf)",
        "jnp.log(_width(p)) - jnp.log(_width(q)), 0.0)",
        f"{KL}::test_outside_of_the_support_it_is_infinite",
    ),
    (
        "a sampler through which half of the derivative is lost",
        "distributions/_inverse_cdf.py",
        "return -jnp.log1p(-u) / self.rate",
        "return -jnp.log1p(-u) / (0.5 * self.rate + 0.5 * jax.lax.stop_gradient(self.rate))",
        f"{FAMILIES}::test_pathwise_gradient[float64-exponential]",
    ),
    (
        "a continuous Bernoulli that rises falls",
        LIKELIHOODS,
        "jnp.where(far > 0, 1.0 - x, x)",
        "x",
        density("continuous-bernoulli"),
    ),
    (
        "the mean of a continuous Bernoulli is the sigmoid",
        LIKELIHOODS,
        "return mean_of_continuous_bernoulli(jnp.asarray(self.logits, float_dtype(self.logits)))",
        "return jax.nn.sigmoid(jnp.asarray(self.logits, float_dtype(self.logits)))",
        f"{FAMILIES}::test_moments_and_slopes_of_the_continuous_bernoulli[float64-1.0]",
    ),
    (
        "the tails of a discretised logistic belong to no bin",
        LIKELIHOODS,
        "jnp.where(k == steps, above, inner)",
        "inner",
        f"{FAMILIES}::test_discretized_logistic[float64-16]",
    ),
    (
        "bins of twice their width",
        LIKELIHOODS,
        "1.0 / (steps * self.scale)",
        "2.0 / (steps * self.scale)",
        f"{FAMILIES}::test_discretized_logistic[float64-16]",
    ),
    (
        "the mean of a discretised logistic is its loc",
        LIKELIHOODS,
        "return (centre + first) / (self.num_bins - 1)",
        "return jnp.clip(jnp.asarray(self.loc), 0.0, 1.0)",
        f"{MOMENTS}[float64-0.0-0.3]",
    ),
    (
        "the variance of a discretised logistic keeps the mean's square",
        LIKELIHOODS,
        "(second - jnp.square(first))",
        "second",
        f"{MOMENTS}[float64-0.1-0.1]",
    ),
    (
        "values beside those of a discretised logistic have mass",
        LIKELIHOODS,
        "k == nearest,",
        "k == k,",
        f"{FAMILIES}::test_what_is_none_of_the_values_of_a_discretized_logistic_has_no_mass",
    ),
    (
        "an Erlang of one waiting time",
        TABLE,
        "Erlang(2, rate)",
        "Erlang(1, rate)",
        density("erlang"),
    ),
    (
        "the width of a uniform for its upper edge",
        TABLE,
        "Uniform(low, low + width, width=width)",
        "Uniform(low, width, width=width)",
        f"{FAMILIES}::test_sampler_follows_the_density[float64-uniform]",
    ),
    (
        "the upper edge of a reciprocal",
        TABLE,
        "low * (1.0 + excess), log_ratio",
        "low * excess, log_ratio",
        density("reciprocal"),
    ),
    (
        "edges that move are compared where they stand",
        TABLE,
        "high = math.inf if q.movable[1] else q.edges[1]",
        "high = q.edges[1]",
        f"{FAMILIES}::test_supports[pareto-reciprocal-False]",
    ),
    (
        "a scale that is not made positive",
        TABLE,
        '_SHAPE_RATE: dict[str, Kind] = {"concentration": "positive", "rate": "positive"}',
        '_SHAPE_RATE: dict[str, Kind] = {"concentration": "positive", "rate": "real"}',
        f"{FAMILIES}::test_raw_outputs_of_any_size_give_finite_numbers_and_gradients[float32-gamma]",
    ),
    (
        "an infinite density at an edge is called zero",
        EDGES,
        "jnp.any(zero & (a < 1), axis=-1), jnp.inf, log_p)",
        "jnp.any(zero & (a < 1), axis=-1), -jnp.inf, log_p)",
        f"{FAMILIES}::test_dirichlet_at_and_beyond_the_edges_of_the_simplex",
    ),
    (
        "off the simplex there is a density",
        EDGES,
        "inside = jnp.all(value >= 0, axis=-1) & (excess",
        "inside = jnp.all(value >= 0, axis=-1) | (excess",
        f"{FAMILIES}::test_dirichlet_at_and_beyond_the_edges_of_the_simplex",
    ),
    (
        "the circular variance for the angle's",
        "distributions/_von_mises.py",
        "jnp.sum(weight * d**2, axis=-1)",
        "jnp.sum(weight * (1.0 - jnp.cos(d)), axis=-1)",
        f"{DRAWS}[von-mises]",
    ),
    (
        "a wide log-normal lies at its mean",
        "distributions/_location.py",
        "    dist.LogNormal,\n",
        "",
        f"{FAMILIES}::test_location_and_scale_are_numbers_for_any_raw_output[log-normal]",
    ),
    (
        "a mixture is not looked into",
        "models/_mixture.py",
        "return support_depends_on_parameters(self._one(0))",
        "return False",
        f"{FAMILIES}::test_a_support_that_moves_is_known_however_deep_it_lies",
    ),
    (
        "the noise of a reparameterised distribution is not looked at",
        "distributions/_reparameterize.py",
        "carried = is_whole(noise.support) and not support_depends_on_parameters(noise)",
        "carried = True",
        f"{FAMILIES}::test_a_support_that_moves_is_known_however_deep_it_lies",
    ),
    (
        "what a rule declines is an empty error",
        "distributions/_kl.py",
        "except NotImplementedError:  # either",
        "except ZeroDivisionError:  # either",
        f"{KL}::test_a_correlated_gaussian_has_no_closed_form_to_what_is_no_gaussian",
    ),
]
