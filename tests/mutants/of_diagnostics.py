"""Planted defects of the latent space's diagnostics and of the gaps: (name, file, text there, replacement, killer)."""

LATENT, GAPS = "evaluate/_latent.py", "evaluate/_gaps.py"
LATENT_WORDS, GAPS_WORDS, NUMBERS = "evaluate/_latent_words.py", "evaluate/_gaps_words.py", "evaluate/_words.py"
DIAGNOSE, FITTED = "reports/_diagnose.py", "fitted.py"
DIAGNOSTICS, STATISTICS = "unit/test_latent_diagnostics.py", "statistical/test_gaps.py"
MIXTURE = f"{DIAGNOSTICS}::test_the_aggregate_posterior_is_the_mixture_over_all_rows[7]"
MOMENTS = f"{DIAGNOSTICS}::test_the_kl_and_the_moments_are_those_of_the_posterior"
SHIFT = f"{DIAGNOSTICS}::test_a_shift_of_the_encoder_is_a_distance_of_the_aggregate_posterior"
INFORMATION = f"{DIAGNOSTICS}::test_the_information_is_that_of_the_jointly_gaussian_x_and_z"
CLOSED = f"{STATISTICS}::test_the_gaps_are_the_closed_form"
NO_NOISE = f"{STATISTICS}::test_at_the_true_posterior_there_are_no_gaps_and_no_noise"
SIDES = f"{DIAGNOSTICS}::test_the_two_sides_hold_the_truth_between_them"
EXACT_MODEL = f"{DIAGNOSTICS}::test_an_exact_model_is_not_told_that_its_z_are_far_from_the_prior"
LATENT_SENTENCES = f"{DIAGNOSTICS}::test_every_sentence_appears_where_it_must_and_not_beside_it"
GAPS_SENTENCES = "unit/test_words.py::test_sentences_on_the_gaps"
ANSWERS = "unit/test_reports.py::test_only_what_is_unavailable_is_an_answer[_latent-TypeError]"
LARGER = f"{STATISTICS}::test_the_report_does_not_take_the_larger_of_two_estimates"
SPREAD = f"{STATISTICS}::test_standard_errors_are_those_of_repeated_runs"

MUTANTS = [
    (
        "the aggregate posterior is a sum",
        LATENT,
        "return every - jnp.log(jnp.asarray(n, every.dtype))",
        "return every",
        MIXTURE,
    ),
    (
        "the largest component in place of the mixture",
        LATENT,
        "(jax.nn.logsumexp(each, axis=0)",
        "(jnp.max(each, axis=0)",
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
        "_mean(own_in - log_p))",
        "_mean(log_p - own_in))",
        SHIFT,
    ),
    (
        "the KL in place of the information",
        LATENT,
        "_mean(log_q - own_in)",
        "_mean(log_q - log_p)",
        SHIFT,
    ),
    (
        "the own row is left out on both sides",
        LATENT,
        "_mean(log_q - own_in)",
        "_mean(log_q - own_out)",
        f"{DIAGNOSTICS}::test_more_information_than_the_rows_can_show_stops_at_log_n",
    ),
    (
        "the own row is in on both sides",
        LATENT,
        "_mean(log_q - own_out)",
        "_mean(log_q - own_in)",
        SIDES,
    ),
    (
        "the two sides of the aggregate KL change places",
        LATENT,
        "Bounds(_mean(own_out - log_p), _mean(own_in - log_p))",
        "Bounds(_mean(own_in - log_p), _mean(own_out - log_p))",
        SIDES,
    ),
    (
        "the next row is left out for the own one",
        LATENT,
        "j[:, None] == jnp.arange(n)",
        "j[:, None] == jnp.arange(n) + 1",
        MIXTURE,
    ),
    (
        "the mixture without the own row is divided by N",
        LATENT,
        "others - jnp.log(jnp.asarray(n - 1, others.dtype))",
        "others - jnp.log(jnp.asarray(n, others.dtype))",
        MIXTURE,
    ),
    (
        "saturated rows are those that others reach",
        LATENT,
        "log_q > own_out + np.log(n - 1)",
        "log_q < own_out + np.log(n - 1)",
        EXACT_MODEL,
    ),
    (
        "the interval is only as wide as the two estimates",
        LATENT,
        "max(low.value - sigmas * low.standard_error, 0.0)",
        "max(low.value, 0.0)",
        f"{DIAGNOSTICS}::test_zero_is_never_claimed",
    ),
    (
        "any TypeError of a model is a missing closed form",
        LATENT,
        "    except UnavailableError:\n        return False",
        "    except TypeError:\n        return False",
        f"{DIAGNOSTICS}::test_a_fault_in_a_users_model_is_not_taken_for_a_missing_closed_form",
    ),
    (
        "what is not told from zero is told",
        LATENT_WORDS,
        "if low <= 0:",
        "if low < 0:",
        LATENT_SENTENCES,
    ),
    (
        "dimensions are counted from 0",
        LATENT_WORDS,
        "{i + 1} and {j + 1}",
        "{i} and {j}",
        LATENT_SENTENCES,
    ),
    (
        "a correlation counts as it is found, however few the rows",
        LATENT_WORDS,
        "+ sigmas_of_any(int(pairs.sum())) / np.sqrt(d.kl.num_rows - 3)",
        "+ 0.0",
        LATENT_SENTENCES,
    ),
    (
        "far from the prior by the upper side",
        LATENT_WORDS,
        "if low > _FAR_PRIOR:",
        "if high > _FAR_PRIOR:",
        EXACT_MODEL,
    ),
    (
        "one standard error tells from zero",
        NUMBERS,
        "return m.value - sigmas(m.num_rows) * m.standard_error > off",
        "return m.value - m.standard_error > off",
        "unit/test_words.py::test_only_what_is_three_standard_errors_away_is_told_from_zero",
    ),
    (
        "limits are rounded to the wrong side",
        NUMBERS,
        "return _rounded(value, math.ceil)",
        "return _rounded(value, math.floor)",
        "unit/test_words.py::test_limits_are_rounded_to_the_side_on_which_they_stay_true",
    ),
    (
        "a flow is advised to become a flow",
        GAPS_WORDS,
        "if has_flow",
        "if not has_flow",
        GAPS_SENTENCES,
    ),
    (
        "a tight bound by an estimate that is not trusted",
        GAPS_WORDS,
        "if trusted and gap.value",
        "if gap.value",
        GAPS_SENTENCES,
    ),
    (
        "log p(x) is cut off from below",
        DIAGNOSE,
        "log_likelihood=value, log_likelihood_error=error",
        "log_likelihood=np.maximum(value, value.mean()), log_likelihood_error=error",
        LARGER,
    ),
    (
        "each family has its own log p(x)",
        GAPS,
        "log_likelihood, log_likelihood_error = full.log_likelihood, full.standard_error.log_likelihood",
        "pass",
        f"{STATISTICS}::test_both_families_have_one_log_p_and_one_encoder",
    ),
    (
        "the error of a given log p(x) is forgotten",
        GAPS,
        "gap=np.hypot(found.elbo_error, given)",
        "gap=found.elbo_error",
        f"{STATISTICS}::test_both_families_have_one_log_p_and_one_encoder",
    ),
    (
        "any error of a model is an answer",
        DIAGNOSE,
        "except UnavailableError as error:\n            yield",
        "except (TypeError, ValueError) as error:\n            yield",
        ANSWERS,
    ),
    (
        "rows that were trained on come first",
        DIAGNOSE,
        "np.flatnonzero(~known), COMPARED)",
        "np.flatnonzero(known), COMPARED)",
        "unit/test_reports.py::test_rows_that_were_trained_on_are_not_held_against_samples",
    ),
    (
        "column means are those of the scaled rows",
        DIAGNOSE,
        "evaluate.column_statistics(_units.made(subject.fitted, samples), subject.told)",
        "evaluate.column_statistics(samples, subject.x)",
        "unit/test_reports.py::test_counts_are_told_as_counts",
    ),
    (
        "the first rows of a file for rows at random",
        DIAGNOSE,
        "np.asarray(jax.random.permutation(key, len(rows)))",
        "np.arange(len(rows))",
        "unit/test_reports.py::test_a_sorted_file_does_not_accuse_samples_of_copying",
    ),
    (
        "one noise for training and held-out rows",
        FITTED,
        'BINARIZATION_KEY if part == "held-out" else _TRAINING_KEY',
        "BINARIZATION_KEY",
        "unit/test_reports.py::test_training_rows_have_binarisation_noise_of_their_own",
    ),
    (
        "the report binarises training rows like held-out ones",
        "reports/_make.py",
        'fitted.prepare(train_rows, part="training")',
        "fitted.prepare(train_rows)",
        "unit/test_reports.py::test_the_report_gives_training_rows_their_own_noise",
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
        "ACTIVE * prior_scale**2",
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
        "log_p = log_mean_exp(optimised)",
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
