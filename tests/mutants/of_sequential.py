"""Planted defects of latents in layers: (name, file, text there, replacement, killer)."""

SEQUENTIAL, LOCATION, WEIGHTS = (
    "distributions/_sequential.py",
    "distributions/_location.py",
    "estimators/_log_weights.py",
)
TESTS = "unit/test_sequential.py"
JOINT = f"{TESTS}::test_the_density_is_that_of_the_joint_gaussian"
DRAWS = f"{TESTS}::test_draws_have_the_joint_mean_and_covariance_and_bring_their_density"
PARTS = f"{TESTS}::test_the_layers_parts_are_those_of_the_closed_form"
DIVERGENT = f"{TESTS}::test_a_part_is_a_divergence_where_the_prior_asks_for_no_later_draw"

MUTANTS = [
    (
        "layers lie in the order in which they are drawn",
        SEQUENTIAL,
        "return jnp.concatenate([parts[name] for name in self.sizes])",
        "return jnp.concatenate([parts[name] for name in self.factors])",
        DRAWS,
    ),
    (
        "all factors are drawn with one key",
        SEQUENTIAL,
        "u, log_q = drawn_and_log_prob(d, keys[i])",
        "u, log_q = drawn_and_log_prob(d, keys[0])",
        DRAWS,
    ),
    (
        "the gradient stops between the layers",
        SEQUENTIAL,
        "return as_drawn(d).value(u), (u, log_q)",
        "return jax.lax.stop_gradient(as_drawn(d).value(u)), (u, log_q)",
        f"{TESTS}::test_the_pathwise_gradient_is_that_of_the_closed_form",
    ),
    (
        "layers begin where the last one begins",
        SEQUENTIAL,
        "        start += size\n    return parts",
        "        start += size - 1\n    return parts",
        JOINT,
    ),
    (
        "the parts' sign",
        SEQUENTIAL,
        "(name, log_q[name] - log_p[name])",
        "(name, log_p[name] - log_q[name])",
        PARTS,
    ),
    (
        "every part is called a divergence",
        SEQUENTIAL,
        "if p.given[name] <= set(order[: order.index(name)])",
        "if p.given[name] <= set(order)",
        DIVERGENT,
    ),
    (
        "the support of one factor stands for all",
        SEQUENTIAL,
        "if all(support is constraints.real for support in of)",
        "if any(support is constraints.real for support in of)",
        f"{TESTS}::test_a_layer_that_is_log_normal",
    ),
    (
        "the deviation of a layer is that given the others",
        LOCATION,
        "jnp.sqrt(squares / _DRAWS + jnp.maximum(second / _DRAWS - jnp.square(off), 0.0))",
        "jnp.sqrt(squares / _DRAWS)",
        f"{TESTS}::test_location_and_scale_of_layers",
    ),
    (
        "the parts are climbed",
        WEIGHTS,
        "jax.lax.stop_gradient(over_samples(of, jax.lax.stop_gradient(z)))",
        "over_samples(of, z)",
        f"{TESTS}::test_no_gradient_flows_through_a_layers_part",
    ),
    (
        "layouts that differ are compared",
        "models/_contracts.py",
        "isinstance(p, Sequential) and q.layout != p.layout",
        "isinstance(p, Sequential) and len(q.layout) != len(p.layout)",
        f"{TESTS}::test_a_posterior_and_a_prior_with_other_layouts_are_refused",
    ),
]
