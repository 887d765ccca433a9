#!/usr/bin/env bash
# Software: torch 2.14.1 (FlopCounterMode), torchinfo 1.8.0, timm 1.0.31, torchvision 0.29.1
# Input: timm's ViT-Ti/16, one image of 224 x 224, on the processor; 1.26 GMACs by its formulas
# Guess: FlopCounterMode 2.51 GFLOPs (twice 1.26); torchinfo 0.2 G
# Seen: FlopCounterMode 2.15 GFLOPs on the processor and 2.51 on the meta device: fused attention counts
#   as nothing on the processor; torchinfo 0.03 G, because it takes a linear layer for one token
# Matters: by tool and device the same model looks a seventh cheaper, or 36 times; what is left out
#   grows with the square of the number of tokens
# vtrain: counts on the meta device
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
install timm==1.0.31 torchinfo==1.8.0 torch==2.14.1 torchvision==0.29.1
observe <<'PY'
import timm
import torch
import torchinfo
from torch.utils.flop_counter import FlopCounterMode
for device in ("cpu", "meta"):
    with torch.device(device), torch.no_grad(), FlopCounterMode(display=False) as counter:
        timm.create_model("vit_tiny_patch16_224").eval()(torch.zeros(1, 3, 224, 224))
    print(f"{device} {counter.get_total_flops() / 1e9:.2f}", end="; ")
model = timm.create_model("vit_tiny_patch16_224").eval()
summary = torchinfo.summary(model, (1, 3, 224, 224), device="cpu", verbose=0)
print(f"torchinfo {summary.total_mult_adds / 1e9:.2f}")
PY
expect "cpu 2.15; meta 2.51; torchinfo 0.03"
