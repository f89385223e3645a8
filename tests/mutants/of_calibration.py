"""Planted defects of calibration, predictive checks and samples: (name, file, text there, its replacement, killer)."""

CALIBRATION = "statistical/test_calibration.py"
PREDICTIVE, GENERATION = "unit/test_predictive.py", "unit/test_generation.py"

SBC, PPC, SAMPLES = "evaluate/_calibration.py", "evaluate/_predictive.py", "evaluate/_generation.py"

CHECK_WORDS, SENTENCES = "evaluate/_check_words.py", "unit/test_words.py::test_sentences_on_"

ENUMERATED = f"{CALIBRATION}::test_p_values_by_enumeration[5-3]"
EXACT = f"{CALIBRATION}::test_the_exact_posterior_is_calibrated[False]"
TIES = f"{CALIBRATION}::test_ties_are_broken_evenly"
FROM_THE_ROW = f"{PREDICTIVE}::test_a_replicates_row_comes_from_the_posterior_of_the_datas_row"
BY_HAND = f"{PREDICTIVE}::test_numbers_by_hand"
BYTES = f"{GENERATION}::test_neighbours_of_whole_numbers[uint8]"
MANN_WHITNEY = f"{GENERATION}::test_mann_whitney_against_scipy[0]"
NORMAL = f"{GENERATION}::test_mann_whitney_against_scipy[8]"
EXCHANGED = f"{GENERATION}::test_exact_p_values_of_few_rows_against_scipy"

MUTANTS = [
    (
        "draws below and above are confused",
        SBC,
        "jnp.sum(f[1:] < f[0], axis=0)",
        "jnp.sum(f[1:] > f[0], axis=0)",
        f"{CALIBRATION}::test_ranks_count_the_draws_below",
    ),
    ("all ties are taken to lie below", SBC, "ties.shape, 0, ties + 1)", "ties.shape, ties, ties + 1)", TIES),
    ("one place too few for ties", SBC, "ties.shape, 0, ties + 1)", "ties.shape, 0, jnp.maximum(ties, 1))", TIES),
    (
        "one draw many times",
        SBC,
        "jax.random.fold_in(draw_key, l)",
        "jax.random.fold_in(draw_key, 0 * l)",
        EXACT,
    ),
    (
        "every draw is there twice",
        SBC,
        "jax.random.fold_in(draw_key, l)",
        "jax.random.fold_in(draw_key, l // 2)",
        EXACT,
    ),
    (
        "the joint at the truth is that of another x",
        SBC,
        "log_joint_of(generative, x, z))(z)",
        "log_joint_of(generative, 0.0 * x, z))(z)",
        f"{CALIBRATION}::test_the_joint_finds_a_posterior_that_ignores_x",
    ),
    (
        "the sum of increments is not conditioned on",
        SBC,
        "mass[0] / self._poisson(1.0, self.n)[-1]",
        "mass[0]",
        ENUMERATED,
    ),
    (
        "one tail for two",
        SBC,
        "2 * np.minimum(at_most, at_least)",
        "2 * at_most",
        ENUMERATED,
    ),
    (
        "a count is no part of its upper tail",
        SBC,
        "np.cumsum(pmf[:, ::-1], axis=1)[:, ::-1]",
        "1.0 - np.cumsum(pmf, axis=1)",
        ENUMERATED,
    ),
    (
        "no correction for several quantities",
        SBC,
        "alpha = (1 - level) / num_quantities",
        "alpha = 1 - level",
        f"{CALIBRATION}::test_within_the_bands_is_a_p_value_above_the_limit",
    ),
    (
        "too narrow and too wide are confused",
        SBC,
        '"under-dispersed" if of_variance > 0',
        '"under-dispersed" if of_variance < 0',
        f"{CALIBRATION}::test_a_wrong_posterior_is_found_and_told[wrong2-under-dispersed-shifted high]",
    ),
    (
        "low and high are confused",
        SBC,
        '"shifted low" if of_mean > 0',
        '"shifted low" if of_mean < 0',
        f"{CALIBRATION}::test_a_wrong_posterior_is_found_and_told[wrong0-shifted high-None]",
    ),
    (
        "z comes from the prior in a posterior check",
        PPC,
        "z = posterior_of(recognition, x).sample(z_key)",
        "z = generative.prior().sample(z_key)",
        FROM_THE_ROW,
    ),
    ("replicates share their noise", PPC, "jax.random.fold_in(key, r)", "jax.random.fold_in(key, 0)", FROM_THE_ROW),
    (
        "the mean of p(x | z) for a sample of it",
        PPC,
        "likelihood_given(generative, z, *given_of(generative, x)).sample(x_key)",
        "likelihood_given(generative, z, *given_of(generative, x)).mean",
        f"{PREDICTIVE}::test_replicates_have_the_likelihoods_noise",
    ),
    ("the data are not counted among the replicates", PPC, "2 * (1 + np.minimum", "2 * (0 + np.minimum", BY_HAND),
    ("one-sided for two-sided", PPC, "np.minimum(above, below)", "np.minimum(above, above)", BY_HAND),
    (
        "columns between blocks are left out",
        PPC,
        "min(start + 65, d)",
        "min(start + 64, d)",
        f"{PREDICTIVE}::test_correlation_of_adjacent_columns_against_numpy[150]",
    ),
    (
        "sign of the product",
        SAMPLES,
        "b_squared - 2.0 * (a @ b.T)",
        "b_squared + 2.0 * (a @ b.T)",
        f"{GENERATION}::test_neighbours_against_brute_force[1-1000]",
    ),
    (
        "an index within its chunk",
        SAMPLES,
        "start + np.arange(len(b))",
        "np.arange(len(b))",
        f"{GENERATION}::test_neighbours_against_brute_force[1-100]",
    ),
    (
        "bytes wrap around",
        SAMPLES,
        "b = train[index[q : q + chunk_size, c]].astype(np.float64)\n            distance",
        "a, b = queries[q : q + chunk_size], train[index[q : q + chunk_size, c]]\n            distance",
        BYTES,
    ),
    ("ties do not count by half", SAMPLES, "np.sum(above) + np.sum(ties) / 2", "np.sum(above)", MANN_WHITNEY),
    ("exchanges against the samples' own ranks", SAMPLES, "ranks[group[s:]]", "ranks[group[:s]]", EXCHANGED),
    (
        "near and far are confused",
        SAMPLES,
        "math.erfc(z / math.sqrt(2)) / 2",
        "math.erfc(-z / math.sqrt(2)) / 2.0",
        NORMAL,
    ),
    (
        "a row too many in the beta-binomial",
        SAMPLES,
        "close, s, m, h - m + 1)",
        "close, s, m + 1, h - m + 1)",
        f"{GENERATION}::test_samples_among_the_nearest_held_out_rows_by_hand",
    ),
    (
        "rows that were trained on are those that are kept",
        SAMPLES,
        "held = held[~np.asarray(trained_on)]",
        "held = held[np.asarray(trained_on)]",
        f"{GENERATION}::test_held_out_rows_that_were_trained_on_are_left_out",
    ),
    (
        "no correction for seven statistics",
        CHECK_WORDS,
        "limit = _PREDICTIVE_ALPHA / num",
        "limit = _PREDICTIVE_ALPHA",
        f"{SENTENCES}predictive_checks",
    ),
    (
        "statistics that tell nothing are counted",
        CHECK_WORDS,
        "tested, replicates = np.flatnonzero(check.tested)",
        "tested, replicates = np.arange(len(check.names))",
        f"{SENTENCES}predictive_checks",
    ),
    (
        "no correction for three readings",
        CHECK_WORDS,
        "min(1.0, 3 * p)",
        "min(1.0, p)",
        "unit/test_words.py::test_three_readings_are_tested_at_once",
    ),
    (
        "all columns are far",
        CHECK_WORDS,
        "np.abs(columns.z_score) > columns.limit",
        "np.abs(columns.z_score) < columns.limit",
        f"{SENTENCES}columns",
    ),
    (
        "variances are not divided by the number of rows",
        "evaluate/_exchange.py",
        "other_sd**2 / other_num",
        "other_sd**2 / num",
        f"{GENERATION}::test_where_the_samples_vary_less_the_error_is_welchs",
    ),
    (
        "what chance alone does is far",
        SAMPLES,
        "limit = max(FAR,",
        "limit = min(FAR,",
        f"{GENERATION}::test_what_chance_alone_does_is_not_far",
    ),
    (
        "a group that does not vary has no error",
        "evaluate/_exchange.py",
        "return np.maximum(welch,",
        "return np.minimum(welch,",
        f"{GENERATION}::test_constant_columns",
    ),
]
