"""Verbs done by a server elsewhere: `sfumato --server URL VERB …`.

What a verb would run becomes a job, and the job's files are delivered as those of a run here.
"""
