"""Defects in estimators and objectives: (name, file, old text, new text, test that must notice)."""

IMPORTANCE, SCORE, WEIGHTS = "estimators/_importance.py", "estimators/_score.py", "estimators/_log_weights.py"
BOUNDS, OBJECTIVES = "statistical/test_bounds.py", "unit/test_objectives.py"
CONTRACTS, RENYI, ELBO = "models/_contracts.py", "estimators/_renyi.py", "evaluate/_elbo.py"
ANSWER = "unit/test_contracts.py::test_what_is_not_available_is_an_answer"


def unbiased(name: str) -> str:
    return f"{BOUNDS}::test_value_and_gradient_are_unbiased_for_the_own_bound[{name}]"


def refused(wrong: str) -> str:
    return f"unit/test_contracts.py::test_shapes_that_do_not_fit_are_refused_by_all_who_ask[{wrong}]"


def with_zeros(name: str) -> str:
    return f"{BOUNDS}::test_weights_of_zero_are_what_they_are[{name}]"


MUTANTS = [
    (
        "every row is simulated with what the first one has given",
        "evaluate/_simulated.py",
        "index % num_rows_of(like)",
        "index % 1",
        "unit/test_conditional.py::test_simulated_rows_are_given_what_the_rows_of_data_have",
    ),
    (
        "each minibatch is made of the first rows",
        "train/_loop.py",
        "Batch(take(rows, index), index)",
        "Batch(take(rows, slice(len(index))), index)",
        "unit/test_conditional.py::test_a_conditional_model_is_trained_and_every_row_keeps_its_own_given",
    ),
    (
        "DReG with its weights to the first power",
        IMPORTANCE,
        "scale_gradient(u, jnp.broadcast_to(v.reshape",
        "scale_gradient(u, 1.0 + 0.0 * jnp.broadcast_to(v.reshape",
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
        "as_drawn(posterior_of(stopped(recognition), x))",
        "as_drawn(posterior_of(recognition, x))",
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
        "u = jax.lax.stop_gradient(draws.sample(key, sample_shape))",
        "u = draws.sample(key, sample_shape)",
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
    (
        "many distributions are taken for one",
        CONTRACTS,
        "if p.batch_shape != ():",
        "if False:",
        refused("Factors, likelihood without to_event"),
    ),
    (
        "a log-density of one number for each pixel is averaged",
        CONTRACTS,
        "if jnp.shape(value) != shape:",
        "value = jnp.mean(value) if shape == () else value\n    if jnp.shape(value) != shape:",
        refused("Joint, one number for each pixel"),
    ),
    (
        "x is broadcast over the likelihood",
        CONTRACTS,
        "if p.event_shape != jnp.shape(value):",
        "if False:",
        refused("Factors, likelihood of one number"),
    ),
    (
        "the prior is broadcast over the posterior",
        CONTRACTS,
        "if q.event_shape != p.event_shape:",
        "if False:",
        refused("Factors, prior of one number"),
    ),
    (
        "any TypeError is read as a KL without a closed form",
        ELBO,
        "return has_analytic_kl(*posterior_and_prior(*pair, _simulated(pair[0], jax.random.key(0), like)))",
        "try:\n            x = _simulated(pair[0], jax.random.key(0), like)\n"
        "            return has_analytic_kl(*posterior_and_prior(*pair, x))\n"
        "        except TypeError:\n            return False",
        "unit/test_contracts.py::test_an_error_of_the_users_model_reaches_the_user[elbo_estimator-TypeError]",
    ),
    ("estimator A though the KL has a closed form", ELBO, "return SgvbB(num_samples) if", "return SgvbA() if", ANSWER),
    (
        "a model that only has log_joint is asked for its KL",
        ELBO,
        "return SgvbA(num_samples)\n\n",
        "return SgvbB(num_samples)\n\n",
        ANSWER,
    ),
    (
        "the ELBO by estimator B whatever was asked for",
        ELBO,
        "SgvbB() if estimator is None else estimator",
        "SgvbB()",
        "unit/test_evaluate.py::test_the_elbo_is_by_the_estimator_that_was_asked_for",
    ),
    (
        "the rows of the ELBO share their noise",
        ELBO,
        "return estimator(key, generative",
        "return estimator(jax.random.key(0), generative",
        "unit/test_evaluate.py::test_rows_do_not_share_noise",
    ),
    (
        "the comparison swallows a user's own error",
        "evaluate/_gradients.py",
        "except UnavailableError:",
        "except TypeError:",
        "unit/test_contracts.py::test_an_error_of_the_users_model_reaches_the_user[compare_estimators-TypeError]",
    ),
    (
        "an epoch of skipped steps has an ELBO of 0",
        "train/_loop.py",
        'if total else float("nan")',
        "if total else 0.0",
        "unit/test_train.py::test_an_epoch_without_a_good_step_has_no_numbers",
    ),
    (
        "Renyi's middle takes in weights of zero",
        RENYI,
        "jnp.sum(jnp.where(positive, log_w, 0.0))",
        "jnp.sum(log_w)",
        with_zeros("renyi 0"),
    ),
    (
        "Renyi's mean is over the positive weights alone",
        RENYI,
        " + jnp.log(jnp.maximum(n, 1) / len(log_w))",
        "",
        with_zeros("renyi 0.999"),
    ),
    (
        "Renyi above 1 leaves weights of zero out",
        RENYI,
        "(n == 0) | ((power < 0) & (n < len(log_w)))",
        "n == 0",
        with_zeros("renyi 2"),
    ),
    (
        "a number that takes in its surrogate's value",
        WEIGHTS,
        "return primals[0], tangents[1]",
        "return primals[0] + primals[1] - primals[1], tangents[1]",
        with_zeros("dreg"),
    ),
    (
        "the gradient of no weight at all",
        WEIGHTS,
        "jnp.where(none[..., None], 0.0, log_w)",
        "log_w",
        f"{BOUNDS}::test_log_mean_exp_and_its_gradient_where_all_weights_are_zero",
    ),
    (
        "VIMCO judges a sample against no weight at all",
        SCORE,
        "jnp.where(baseline == -jnp.inf, 0.0, baseline)",
        "baseline",
        with_zeros("vimco of two"),
    ),
    (
        "the sticking gradient forgets to ask whether the support moves",
        "estimators/_stl.py",
        'refuse_moving_support(q, "sticking the landing")',
        "repr(q)",
        f"{BOUNDS}::test_a_support_that_moves_is_refused_where_the_score_must_average_to_zero[estimator0]",
    ),
]
