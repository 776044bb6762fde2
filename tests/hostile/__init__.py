"""Inputs that must give success or one clear line, by subject: one row each."""
