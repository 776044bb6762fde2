"""The process: schedules, denoisers, branches, guides, solvers, spacings, starts, noise.

Nothing here knows files, pictures or networks by name, and importing it imports no torch.
"""
