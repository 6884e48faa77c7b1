"""Making the outputs of a DSR: for `precompute`, for `finetune --write-through`, and timed by `bench`."""
