"""Planted defects of the latent space's diagnostics and of the gaps: (name, file, text there, replacement, killer)."""

LATENT, GAPS = "evaluate/_latent.py", "evaluate/_gaps.py"
DIAGNOSTICS, STATISTICS = "unit/test_latent_diagnostics.py", "statistical/test_gaps.py"
MIXTURE = f"{DIAGNOSTICS}::test_the_aggregate_posterior_is_the_mixture_over_all_rows[7]"
MOMENTS = f"{DIAGNOSTICS}::test_the_kl_and_the_moments_are_those_of_the_posterior"
SHIFT = f"{DIAGNOSTICS}::test_a_shift_of_the_encoder_is_a_distance_of_the_aggregate_posterior"
INFORMATION = f"{DIAGNOSTICS}::test_the_information_is_that_of_the_jointly_gaussian_x_and_z"
CLOSED = f"{STATISTICS}::test_the_gaps_are_the_closed_form"
NO_NOISE = f"{STATISTICS}::test_at_the_true_posterior_there_are_no_gaps_and_no_noise"
SPREAD = f"{STATISTICS}::test_standard_errors_are_those_of_repeated_runs"

MUTANTS = [
    (
        "the aggregate posterior is a sum",
        LATENT,
        "return total - jnp.log(jnp.asarray(n, total.dtype))",
        "return total",
        MIXTURE,
    ),
    (
        "the largest component in place of the mixture",
        LATENT,
        "jax.nn.logsumexp(each, axis=0)",
        "jnp.max(each, axis=0)",
        MIXTURE,
    ),
    (
        "what fills up the last chunk counts",
        LATENT,
        "jnp.where(j[:, None] < n, each, -jnp.inf)",
        "jnp.where(j[:, None] >= 0, each, -jnp.inf)",
        MIXTURE,
    ),
    (
        "the aggregate KL's sign",
        LATENT,
        "mean(np.float64(log_aggregate) - log_p)",
        "mean(log_p - np.float64(log_aggregate))",
        SHIFT,
    ),
    (
        "the KL in place of the information",
        LATENT,
        "mean(np.float64(log_q) - log_aggregate)",
        "mean(np.float64(log_q) - log_p)",
        SHIFT,
    ),
    (
        "the own row is left out of the aggregate",
        LATENT,
        "mean(np.float64(log_q) - log_aggregate)",
        "mean(np.float64(log_q) - np.log(np.maximum(np.exp(log_aggregate) - np.exp(log_q) / len(rows), 1e-30)))",
        f"{DIAGNOSTICS}::test_more_information_than_the_rows_can_show_stops_at_log_n",
    ),
    (
        "variance over dimensions",
        LATENT,
        "variance = locs.var(axis=0, ddof=1)",
        "variance = np.resize(locs.var(axis=1, ddof=1), locs.shape[1])",
        MOMENTS,
    ),
    (
        "activity by a fixed yardstick",
        LATENT,
        "ACTIVE * np.asarray(prior_scale, np.float64) ** 2",
        "ACTIVE",
        f"{DIAGNOSTICS}::test_activity_is_measured_by_the_priors_scale",
    ),
    (
        "the sampled KL is the other one's",
        LATENT,
        "kl = jnp.mean(log_q - prior.log_prob(z))",
        "kl = jnp.mean(prior.log_prob(z) - log_q)",
        f"{DIAGNOSTICS}::test_the_sampled_kl_agrees_with_the_closed_form",
    ),
    (
        "amortisation gap's sign",
        GAPS,
        "amortisation_gap=found.optimised_elbo - found.elbo",
        "amortisation_gap=found.elbo - found.optimised_elbo",
        f"{CLOSED}[orthogonal-diagonal-0.0]",
    ),
    (
        "the diagonal family in place of the full one",
        GAPS,
        'lower = None if settings.family == "diagonal" else',
        "lower = None if True else",
        f"{CLOSED}[strong-full-covariance-0.0]",
    ),
    (
        "descent for ascent",
        GAPS,
        "return -estimator(step_key, generative, gaussian(free), x).bound",
        "return estimator(step_key, generative, gaussian(free), x).bound",
        f"{CLOSED}[orthogonal-diagonal-0.0]",
    ),
    (
        "the log of the mean without 1/K",
        GAPS,
        "log_p = jax.nn.logsumexp(optimised) - jnp.log(k)",
        "log_p = jax.nn.logsumexp(optimised)",
        NO_NOISE,
    ),
    (
        "the gradient keeps its score term",
        GAPS,
        "estimator = StickingTheLanding(_DRAWS)",
        "estimator = SgvbA(_DRAWS)",
        NO_NOISE,
    ),
    (
        "the two bounds have noise of their own",
        GAPS,
        "estimator(noise, generative, best, x).bound",
        "estimator(jax.random.fold_in(noise, 1), generative, best, x).bound",
        f"{STATISTICS}::test_common_noise_takes_noise_out_of_the_difference",
    ),
    ("standard error without the root", GAPS, "ddof=1) / jnp.sqrt(k)", "ddof=1) / k", SPREAD),
    (
        "the errors of a difference are those of its first part",
        GAPS,
        "approximation_error=error(ratio - optimised)",
        "approximation_error=error(ratio)",
        SPREAD,
    ),
    (
        "the log-determinant of the factor is left out",
        GAPS,
        "log_det=lambda eps: jnp.sum(jnp.log(flat))",
        "log_det=lambda eps: jnp.zeros(())",
        f"{STATISTICS}::test_the_full_covariance_is_the_one_of_its_factor",
    ),
    (
        "steps with a gradient that is not finite are taken",
        GAPS,
        "jnp.where(finite, a, b)",
        "jnp.where(True, a, b)",
        f"{STATISTICS}::test_steps_with_a_gradient_that_is_not_finite_are_left_out",
    ),
    (
        "blocks of rows begin at row 0",
        GAPS,
        "batch_size=batch_size, first_row=first_row",
        "batch_size=batch_size, first_row=0",
        f"{STATISTICS}::test_batches_and_blocks_of_rows_do_not_change_the_result",
    ),
]
