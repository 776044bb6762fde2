"""Loaders: one for each family of checkpoints, and the library that finds the right one."""
