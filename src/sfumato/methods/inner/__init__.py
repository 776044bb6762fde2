"""The inner part of one method each, whose own file would be too long with it."""
