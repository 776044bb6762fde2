"""The command line: verbs made from methods' fields, and the fixed ones. No logic of its own."""
