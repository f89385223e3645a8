"""Planted defects in the families of distributions and in the divergences between them."""

FAMILIES, KL = "unit/test_families.py", "unit/test_kl_pairs.py"


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
]
