"""Every kind of case, with the check that it goes through."""

from __future__ import annotations

from conformance.glide import KINDS as GLIDE
from conformance.guided import KINDS as GUIDED
from conformance.ilvr import KINDS as ILVR
from conformance.images import KINDS as IMAGES
from conformance.losses import KINDS as LOSSES
from conformance.networks import KINDS as NETWORKS
from conformance.personal import KINDS as PERSONAL
from conformance.sdedit import KINDS as SDEDIT
from conformance.steps import KINDS as STEPS
from conformance.strength import KINDS as STRENGTH
from conformance.style import KINDS as STYLE
from conformance.tokens import KINDS as TOKENS
from conformance.training import KINDS as TRAINING
from conformance.vdiffusion import KINDS as VDIFFUSION

KINDS = {
    **GLIDE, **GUIDED, **ILVR, **IMAGES, **LOSSES, **NETWORKS, **PERSONAL, **SDEDIT,
    **STEPS, **STRENGTH, **STYLE, **TOKENS, **TRAINING, **VDIFFUSION,
}  # fmt: skip
