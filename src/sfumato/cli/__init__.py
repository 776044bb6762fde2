"""The command line: verbs made from methods' fields, and the fixed ones. No behaviour of its own."""
