"""Planted defects of the front door: plan, fit, fitted object, model file.

(name, file below src/aevb, text there, its replacement, killer)
"""

FIT, PLAN, SPLITS, FITTED = "_fit.py", "_plan.py", "_splits.py", "fitted.py"
TESTS = "unit/test_fit.py"

BATCH = f"{TESTS}::test_a_default_batch_never_refuses_data"
GUESSED = f"{TESTS}::test_a_guess_is_a_warning_and_naming_the_likelihood_ends_it"
STOPPING = "unit/test_train.py::test_early_stopping_keeps_the_best_parameters"
SHAPES = f"{TESTS}::test_what_comes_back_of_images_has_their_shape_and_units"
SKIPPED = f"{TESTS}::test_an_epoch_of_skipped_steps_has_no_numbers"

MUTANTS = [
    (
        "a default that refuses data",
        PLAN,
        "min(BATCH_SIZE, len(data))",
        "BATCH_SIZE",
        f"{TESTS}::test_a_default_batch_never_refuses_data",
    ),
    (
        "parts of the data are not compared",
        PLAN,
        "for other in (splits.validation, splits.test):",
        "for other in ():",
        f"{TESTS}::test_parts_on_another_scale_are_refused",
    ),
    (
        "a guess is not said",
        FIT,
        "if plan.guessed:",
        "if False:",
        f"{TESTS}::test_a_guess_is_a_warning_and_naming_the_likelihood_ends_it",
    ),
    ("the worst parameters are kept", FIT, "if bounds[-1] > self.best", "if bounds[-1] < self.best", STOPPING),
    ("the last parameters are kept", FIT, "if waited == 0 or not config.early_stopping:", "if True:", STOPPING),
    (
        "numbers of the rows that chose are called held-out",
        FIT,
        '"validation" if config.early_stopping else None',
        "None",
        f"{TESTS}::test_what_was_selected_on_is_recorded",
    ),
    ("a skipped epoch has an ELBO", FIT, "math.isfinite(value) else None", "value is not None else None", SKIPPED),
    (
        "the decoder starts at the mean and not at its logit",
        "models/likelihoods/_spec.py",
        "return as_array(np.log(mean) - np.log1p(-mean))",
        "return as_array(mean)",
        f"{TESTS}::test_the_decoder_starts_at_the_training_mean",
    ),
    (
        "the parts change places",
        SPLITS,
        "dataset.take(train_index), dataset.take(validation_index)",
        "dataset.take(validation_index), dataset.take(train_index)",
        f"{TESTS}::test_rows_of_a_part_keep_their_numbers_in_the_data",
    ),
    (
        "samples share their noise",
        FITTED,
        "generative.sample(jax.random.fold_in(key, i))",
        "generative.sample(jax.random.fold_in(key, 0 * i))",
        SHAPES,
    ),
    (
        "decoded images stay in [0, 1]",
        FITTED,
        "return self.preprocessing.inverse(x).reshape",
        "return x.reshape",
        SHAPES,
    ),
    (
        "another seed, the same samples",
        "_arguments.py",
        "return jax.random.key(seed)",
        "return jax.random.key(0)",
        f"{TESTS}::test_a_seed_is_its_key",
    ),
    (
        "an old file keeps its old names",
        "modelfile.py",
        'if header["format"] == 1:',
        "if False:",
        f"{TESTS}::test_a_file_with_the_old_name_is_read_with_the_new_one",
    ),
]
