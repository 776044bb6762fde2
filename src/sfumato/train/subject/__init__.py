"""A subject: its pictures and name, the pictures of its class, what a run on it is judged by."""
