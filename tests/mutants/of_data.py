"""Planted defects of what the likelihood sees of stored rows: preprocessing, its choice, storage and identity of rows.

(name, file below src/aevb, text there, its replacement, killer)
"""

PREPROCESSING, SUPPORT = "data/preprocessing.py", "data/support.py"
ARRAYS, DATASET = "data/arrays.py", "data/dataset.py"
SEEN, CHOSEN, STORED = "unit/data/test_preprocessing.py", "unit/data/test_support.py", "unit/data/test_arrays.py"

EXACT = f"{SEEN}::test_deterministic_forms_are_exact"
JACOBIAN = f"{SEEN}::test_log_jacobian_turns_the_density_of_x_into_that_of_the_row"
FAR = f"{SEEN}::test_columns_far_from_zero_are_centred_before_they_become_float32"

MUTANTS = [
    (
        "white is drawn as black",
        PREPROCESSING,
        "uniform * jnp.float32(self.maximum) < stored",
        "uniform * jnp.float32(self.maximum) > stored",
        f"{SEEN}::test_the_mean_of_dynamic_draws_is_the_grey_value",
    ),
    (
        "one half is below the threshold",
        PREPROCESSING,
        "(stored >= jnp.float32(0.5 * self.maximum))",
        "(stored > jnp.float32(0.5 * self.maximum))",
        EXACT,
    ),
    ("the Jacobian's sign", PREPROCESSING, "return -math.fsum(", "return math.fsum(", JACOBIAN),
    ("the Jacobian of one column", PREPROCESSING, "return -num_columns * math.log", "return -math.log", JACOBIAN),
    (
        "rows are centred on the rounded mean",
        PREPROCESSING,
        "- jnp.asarray(near) - jnp.asarray(rest))",
        "- jnp.asarray(near))",
        f"{SEEN}::test_a_float32_row_far_from_zero_is_centred_on_the_mean_and_not_on_its_rounding",
    ),
    (
        "rows are cast and then centred",
        PREPROCESSING,
        ".astype(np.float64) - mean) / std",
        ".astype(np.float32) - mean) / std",
        FAR,
    ),
    ("float64 rows go to the device as float32", PREPROCESSING, "if rows.dtype == np.float64 and", "if False and", FAR),
    (
        "the inverse adds the mean first",
        PREPROCESSING,
        "values.astype(np.float64) * std + mean",
        "(values.astype(np.float64) + mean) * std",
        f"{SEEN}::test_inverse_undoes_the_scaling",
    ),
    (
        "rows that are fixed share their noise",
        PREPROCESSING,
        "jax.random.fold_in(key, number)",
        "key",
        f"{SEEN}::test_fixed_rows_differ_from_each_other_and_between_keys",
    ),
    (
        "the sum of squares is divided by N - 1",
        SUPPORT,
        "np.sqrt(squares / rows.shape[0])",
        "np.sqrt(squares / (rows.shape[0] - 1))",
        f"{CHOSEN}::test_standardised_columns_have_mean_0_and_std_1",
    ),
    (
        "small integers are pixels",
        SUPPORT,
        "if _is_image(dataset) and (",
        "if dataset.columns is None and (",
        f"{CHOSEN}::test_what_is_guessed_and_whether_it_is_said",
    ),
    (
        "a dark row is a data set",
        SUPPORT,
        "len(other) == 1 and is_binary",
        "len(other) == 0 and is_binary",
        f"{CHOSEN}::test_a_dark_row_is_not_refused_for_being_alone",
    ),
    (
        "float64 is rounded in storage",
        ARRAYS,
        "return narrow if exact else wide",
        "return narrow",
        f"{STORED}::test_floats_become_native_float32_where_that_is_exact_and_else_float64",
    ),
    (
        "small integers are bytes",
        ARRAYS,
        "(has_image_shape(event_shape) and is_whole_byte(rows))",
        "is_whole_byte(rows)",
        f"{STORED}::test_small_whole_numbers_are_stored_alike_whatever_held_them",
    ),
    (
        "rows are named by their place in the part",
        DATASET,
        "self.row_numbers[chosen]",
        "chosen",
        f"{STORED}::test_dataset_load_take_and_repr",
    ),
    (
        "rows are looked for after a cast",
        DATASET,
        "dtype = min(floats, key=lambda dtype: dtype.itemsize) if floats else np.result_type(*dtypes)",
        "dtype = among.rows.dtype",
        f"{STORED}::test_rows_of_one_set_are_found_in_another_whatever_stores_them",
    ),
]
