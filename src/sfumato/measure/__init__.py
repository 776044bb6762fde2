"""What good means: distances, agreement with words, faithfulness, all with intervals.

`sfumato eval` runs a model through these; sweeps and plots read them.
"""
