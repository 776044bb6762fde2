"""A subject: its pictures and name, the pictures of its class, and how both are weighed."""
