"""Checks of the reference programs' cases, one module a family, and second implementations."""
