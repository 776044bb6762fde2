"""The networks as torch Modules. No schedules, no sampling, no files: only tensors in and out."""
