"""The job server: recipes, sweeps, batches and trainings as jobs behind one typed HTTP API.

Nothing of it is imported by the library or by help; it needs the extra `server`.
"""
