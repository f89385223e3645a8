"""Planted defects of importance sampling's stream, its trust, and the report.

(name, file below src/aevb, text there, its replacement, killer)
"""

IMPORTANCE, PSIS = "evaluate/_importance.py", "evaluate/_psis.py"
LOG_P, COMPARE, MAKE, TEXT = "reports/_log_p.py", "reports/_compare.py", "reports/_make.py", "reports/_text.py"
UNFINISHED = "reports/_unfinished.py"
SAMPLING, REPORTS = "unit/test_importance.py", "unit/test_reports.py"

MORE = f"{SAMPLING}::test_more_of_gives_what_all_at_once_gives"
PARTS = f"{REPORTS}::test_the_numbers_are_those_of_the_parts"
INTERRUPTED = f"{REPORTS}::test_an_interrupted_evaluation_goes_on"
BLOCKS = f"{REPORTS}::test_blocks_do_not_change_the_result"
COMPARING = f"{REPORTS}::test_comparing_a_model_with_itself_and_with_a_worse_one"

MUTANTS = [
    (
        "Gaussian columns are called independent columns and nothing else",
        "reports/_verdicts.py",
        "{'Gaussian ' if self.gaussian else ''}",
        "",
        "unit/test_report_words.py::test_gaussian_columns_are_called_so",
    ),
    (
        "rows in doubt move the mean by error bars that nobody believes",
        LOG_P,
        "errors[~self.in_doubt] ** 2",
        "errors**2",
        "unit/test_report_words.py::test_whether_it_can_be_believed",
    ),
    (
        "the carry of a stream keeps its old scale",
        IMPORTANCE,
        "sums = one[1] * scales[0] + other[1] * scales[1]",
        "sums = one[1] + other[1] * scales[1]",
        MORE,
    ),
    (
        "squares are carried like sums",
        IMPORTANCE,
        "2 * (part[0] - shift)]",
        "(part[0] - shift)]",
        MORE,
    ),
    (
        "going on draws the same samples again",
        IMPORTANCE,
        "jnp.asarray([first, num_samples]",
        "jnp.asarray([0, num_samples]",
        MORE,
    ),
    (
        "the tail forgets the earlier samples",
        IMPORTANCE,
        "both = np.concatenate([one[3], other[3]], axis=1)",
        "both = np.concatenate([other[3], other[3]], axis=1)",
        MORE,
    ),
    (
        "the standard error lacks the root of K",
        IMPORTANCE,
        "0.0), axis=1) / total**2",
        "0.0), axis=1) * num_samples / total**2",
        f"{SAMPLING}::test_the_standard_error_is_the_spread_over_seeds",
    ),
    (
        "the effective sample size upside down",
        IMPORTANCE,
        "effective = total**2 / squares",
        "effective = squares / total**2",
        f"{SAMPLING}::test_effective_sample_size_of_known_weights",
    ),
    (
        "k-hat with the other sign",
        PSIS,
        "khat[fits] = (n * k_mean",
        "khat[fits] = (-n * k_mean",
        f"{SAMPLING}::test_khat_of_known_tails[0.5]",
    ),
    (
        "k-hat of weights, not of exceedances",
        PSIS,
        "x = (weights[:, :-1] - weights[:, -1:])[:, ::-1]",
        "x = weights[:, :-1][:, ::-1]",
        f"{SAMPLING}::test_khat_of_known_tails[0.1]",
    ),
    (
        "each block draws the first one's noise",
        LOG_P,
        "found = _method(fitted, filled, key, settings, done)",
        "found = _method(fitted, filled, key, settings, 0)",
        BLOCKS,
    ),
    (
        "filled-up rows are counted",
        LOG_P,
        "parts.append({name: values[:size]",
        "parts.append({name: values[:]",
        BLOCKS,
    ),
    (
        "an unfinished file of other settings is taken",
        UNFINISHED,
        "hashlib.sha256(json.dumps(settings.to_dict(), sort_keys=True).encode())",
        "hashlib.sha256()",
        INTERRUPTED,
    ),
    (
        "the difference is not paired",
        COMPARE,
        "evaluate.mean(log_p - reference)",
        "evaluate.mean(log_p - reference[::-1])",
        COMPARING,
    ),
    (
        "units are forgotten",
        COMPARE,
        "per_row).shifted(model.log_jacobian)",
        "per_row).shifted(0.0)",
        f"{REPORTS}::test_scaling_does_not_change_a_comparison_of_densities",
    ),
    (
        "grey and binary data are compared",
        COMPARE,
        "if kind != kinds[first]:",
        "if False:",
        f"{REPORTS}::test_other_data_sets_are_not_compared",
    ),
    (
        "the ELBO of other rows beside log p(x)",
        MAKE,
        "Scores(content, settings, elbo[index], log_p, better, gaussian, of_one_value)",
        "Scores(content, settings, elbo[: len(index)], log_p, better, gaussian, of_one_value)",
        f"{REPORTS}::test_chains_agree_with_importance_sampling[ais]",
    ),
    (
        "three decimals always",
        TEXT,
        "decimals = 2 if error >= 0.005",
        "decimals = 3 if error >= 0.005",
        f"{REPORTS}::test_decimals_follow_the_error",
    ),
    (
        "rows are named by their place in the split",
        MAKE,
        '{"row": int(numbers[i])',
        '{"row": int(i)',
        f"{REPORTS}::test_rows_are_named_by_their_number_in_the_file",
    ),
    (
        "log p(x) of the scaled data",
        LOG_P,
        'np.asarray(self.per_row["log_likelihood"], np.float64) + nats',
        'np.asarray(self.per_row["log_likelihood"], np.float64)',
        f"{REPORTS}::test_log_densities_are_in_the_datas_own_units",
    ),
    (
        "the KL has a unit",
        "_trainer.py",
        "told[self.kl] = terms.kl",
        "told[self.kl] = terms.kl + self.units",
        f"{REPORTS}::test_log_densities_are_in_the_datas_own_units",
    ),
    (
        "training rows are taken for new ones",
        MAKE,
        "None if known is None else int(known.sum())",
        "0",
        f"{REPORTS}::test_rows_that_were_trained_on_are_told",
    ),
    (
        "a difference within its error is called one",
        "evaluate/_words.py",
        "SIGMAS = 3.0",
        "SIGMAS = 0.0",
        "unit/test_report_words.py::test_the_score",
    ),
    (
        "a yardstick without its normaliser",
        "evaluate/_baseline.py",
        "np.sum(y**2 + np.log(2 * np.pi), axis=1)",
        "np.sum(y**2, axis=1)",
        "unit/test_evaluate.py::test_the_yardstick_is_the_density_of_independent_columns",
    ),
]
