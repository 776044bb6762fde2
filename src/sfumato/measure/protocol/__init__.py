"""DreamBooth's own benchmark (arXiv 2208.12242, section 4): every subject in every prompt.

Reads the public data set where the user has it: a folder of photos for each subject, and
prompts_and_classes.txt, which says their classes and the prompts. The measures are taken by
networks that the user has; what cannot be measured is left out and said.
"""

from __future__ import annotations

from sfumato.measure.protocol.evaluate import evaluate, table
from sfumato.measure.protocol.measures import Networks, measure_subject
from sfumato.measure.protocol.pictures import CLASS_BATCHES, Runs
from sfumato.measure.protocol.subjects import subjects

__all__ = ["CLASS_BATCHES", "Networks", "Runs", "evaluate", "measure_subject", "subjects", "table"]
