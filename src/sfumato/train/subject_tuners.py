"""Which tuners learn a subject from a few pictures; nothing else, so that it is read fast."""

CLASSED = ("dreambooth", "sine", "custom_diffusion")
"""Those that may keep a class what it was."""

SUBJECT = (*CLASSED, "textual_inversion", "p_plus")
"""All of them; the others learn from pictures with captions."""
