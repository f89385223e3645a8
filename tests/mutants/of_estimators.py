"""Defects in estimators and objectives: (name, file, old text, new text, test that must notice)."""

IMPORTANCE, SCORE, WEIGHTS = "estimators/_importance.py", "estimators/_score.py", "estimators/_log_weights.py"
BOUNDS, OBJECTIVES = "statistical/test_bounds.py", "unit/test_objectives.py"


def unbiased(name: str) -> str:
    return f"{BOUNDS}::test_value_and_gradient_are_unbiased_for_the_own_bound[{name}]"


MUTANTS = [
    (
        "DReG with its weights to the first power",
        IMPORTANCE,
        "scale_gradient(z, jnp.broadcast_to(v.reshape",
        "scale_gradient(z, 1.0 + 0.0 * jnp.broadcast_to(v.reshape",
        unbiased("dreg"),
    ),
    (
        "a sum of weights for their mean",
        WEIGHTS,
        " - jnp.log(jnp.asarray(log_w.shape[-1], log_w.dtype))",
        "",
        unbiased("iwae"),
    ),
    (
        "STL keeps the score term",
        "estimators/_stl.py",
        "held = posterior_of(stopped(recognition), x)",
        "held = posterior_of(recognition, x)",
        f"{BOUNDS}::test_the_gradient_for_phi_is_zero_at_the_true_posterior[stl]",
    ),
    (
        "VIMCO's baseline looks at its own sample",
        SCORE,
        "jnp.sum(jnp.where(own, 0.0, f), axis=1) / (self.num_samples - 1)",
        "jnp.mean(f) + 0.0 * f",
        unbiased("vimco"),
    ),
    (
        "the leave-one-out baseline leaves nothing out",
        SCORE,
        "c = (jnp.sum(f) - f) / (self.num_samples - 1)",
        "c = jnp.sum(f) / self.num_samples",
        unbiased("score, leave-one-out"),
    ),
    (
        "Renyi without its 1/(1 - alpha)",
        "estimators/_renyi.py",
        "wide) / power",
        "wide)",
        unbiased("renyi"),
    ),
    (
        "CIWAE's weights swapped",
        IMPORTANCE,
        "self.beta * elbo + (1.0 - self.beta) * log_mean_exp",
        "(1.0 - self.beta) * elbo + self.beta * log_mean_exp",
        unbiased("ciwae"),
    ),
    (
        "PIWAE gives theta both gradients",
        IMPORTANCE,
        "log_weights(stopped(generative)",
        "log_weights((generative)",
        unbiased("piwae"),
    ),
    (
        "the score function's samples carry a path",
        "distributions/_reparameterize.py",
        "z = jax.lax.stop_gradient(q.sample(key, sample_shape))",
        "z = q.sample(key, sample_shape)",
        unbiased("score"),
    ),
    (
        "the running mean forgets to decay its count",
        SCORE,
        "0.9 * count + 1.0",
        "count + 1.0",
        f"{BOUNDS}::test_the_running_mean_is_carried",
    ),
    (
        "a variance over n",
        "estimators/_statistics.py",
        "/ (num_draws - 1)",
        "/ num_draws",
        f"{BOUNDS}::test_gradient_statistics_against_a_plain_loop",
    ),
    (
        "free bits cap the KL",
        "train/_objective.py",
        "jnp.maximum(groups, free_bits.nats)",
        "jnp.minimum(groups, free_bits.nats)",
        f"{OBJECTIVES}::test_free_bits_by_hand[0.05-2]",
    ),
    (
        "free bits for each row instead of the minibatch",
        "train/_objective.py",
        "per_dimension = jnp.mean(per_row, axis=0)",
        "per_dimension = jnp.max(per_row, axis=0)",
        f"{OBJECTIVES}::test_free_bits_by_hand[0.05-2]",
    ),
    (
        "full VB weighs the KL of theta like a row's",
        "train/_full_vb.py",
        "(bound - q_theta.kl(prior_scale)) / num_examples",
        "bound / num_examples - q_theta.kl(prior_scale)",
        f"{OBJECTIVES}::test_the_bound_of_full_vb_by_hand",
    ),
]
