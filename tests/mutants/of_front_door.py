"""Planted defects of the front door: plan, fit, fitted object, model file.

(name, file below src/aevb, text there, its replacement, killer)
"""

FIT, PLAN, SPLITS, FITTED, TRAINER = "_fit.py", "_plan.py", "_splits.py", "fitted.py", "_trainer.py"
OWN = "unit/test_fit_model.py"
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
    ("the worst parameters are kept", TRAINER, "0 if bound > self.best", "0 if bound < self.best", STOPPING),
    ("the last parameters are kept", TRAINER, "if self.waited == 0 or not self.patience:", "if True:", STOPPING),
    (
        "numbers of the rows that chose are called held-out",
        FIT,
        '"validation" if training.early_stopping else None',
        "None",
        f"{TESTS}::test_what_was_selected_on_is_recorded",
    ),
    ("a skipped epoch has an ELBO", TRAINER, "math.isfinite(value) else None", "value is not None else None", SKIPPED),
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
        "_verbs.py",
        "generative.sample(jax.random.fold_in(key, i)",
        "generative.sample(jax.random.fold_in(key, 0 * i)",
        SHAPES,
    ),
    (
        "decoded images stay in [0, 1]",
        "_feed.py",
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
    (
        "what is given is another sample's",
        "_verbs.py",
        "*as_floats(given))\n        return",
        "*as_floats(jax.tree.map(jax.numpy.zeros_like, given)))\n        return",
        f"{OWN}::test_a_conditional_model_is_sampled_given_what_is_given",
    ),
    (
        "a transform's units are not in the densities",
        "_feed.py",
        "return float(self.transform.log_jacobian())",
        "return 0.0",
        f"{OWN}::test_a_transform_changes_units_and_nothing_else",
    ),
    (
        "samples are not brought back by the transform",
        "_feed.py",
        "return np.asarray(self.transform.inverse(x))",
        "return np.asarray(x)",
        f"{OWN}::test_a_transform_changes_units_and_nothing_else",
    ),
    (
        "rows of another form are taken",
        "_feed.py",
        "if (form := _form_of(rows)) != self.form:",
        "if (form := _form_of(rows)) is None:",
        f"{OWN}::test_a_conditional_model_is_sampled_given_what_is_given",
    ),
    (
        "a file's arrays are read by another model",
        "modelfile.py",
        "if arrays[name].shape != leaf.shape or not good:",
        "if not good:",
        f"{OWN}::test_a_model_of_ones_own_is_saved_and_read_back",
    ),
    (
        "a file names a spec that nobody registered",
        "_spec.py",
        "if kind in self._classes:\n            return self._classes[kind]",
        "if kind or self._classes:\n            return next(iter(self._classes.values()))",
        "unit/test_specs.py::test_a_file_that_names_an_unknown_spec_is_refused",
    ),
]
