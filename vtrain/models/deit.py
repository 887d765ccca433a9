"""DeiT and DeiT III: presets of `ViT`, whose keys hold what they add to the architecture.

Reference: DeiT and its distillation token: Touvron et al., arXiv:2012.12877; DeiT III, layer scale
and positions for patches only: Touvron et al., arXiv:2204.07118
(github.com/facebookresearch/deit).
"""

from typing import Any

from vtrain.models.vit import TI, B, H, L, S, ViT
from vtrain.registry import MODELS

DEIT = "Touvron et al., arXiv:2012.12877"
DEIT_III = "Touvron et al., arXiv:2204.07118"

# A second token, which learns what the teacher says, and a head that reads it (section 4).
DISTILLED: dict[str, Any] = {"distillation_token": True}
# Section 3 of DeiT III, and `models_v2.py` of its code; drop path is the same in every block.
DEIT3: dict[str, Any] = {
    "layer_scale": 1e-4,
    "class_position": False,
    "drop_path_schedule": "constant",
}
M = {"embed_dim": 512, "depth": 12, "num_heads": 8}  # a size that only DeiT III has

MODELS.register("deit_ti", reference=DEIT, **TI)(ViT)
MODELS.register("deit_s", reference=DEIT, **S)(ViT)
MODELS.register("deit_b", reference=DEIT, **B)(ViT)
MODELS.register("deit_ti_distilled", reference=DEIT, **TI, **DISTILLED)(ViT)
MODELS.register("deit_s_distilled", reference=DEIT, **S, **DISTILLED)(ViT)
MODELS.register("deit_b_distilled", reference=DEIT, **B, **DISTILLED)(ViT)
MODELS.register("deit3_s", reference=DEIT_III, **S, **DEIT3)(ViT)
MODELS.register("deit3_m", reference=DEIT_III, **M, **DEIT3)(ViT)
MODELS.register("deit3_b", reference=DEIT_III, **B, **DEIT3)(ViT)
MODELS.register("deit3_l", reference=DEIT_III, **L, **DEIT3)(ViT)
MODELS.register("deit3_h", reference=DEIT_III, **H, **DEIT3)(ViT)
