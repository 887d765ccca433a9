#!/usr/bin/env bash
# Software: safetensors 0.8.0 (safetensors.numpy), numpy 2.4.6
# Input: a 2 x 3 float32 matrix, saved as it is, transposed with .T, and as a copy of that
# Guess: the values that were saved come back, whatever their order in memory
# Seen: the transposed one comes back with its shape and other values: the bytes are written as they
#   lie in memory. The copy is right; no error, no warning
# Matters: a linear layer's weights turned for another framework with .T are scrambled in the file
# vtrain: writes by safetensors.torch, which refuses a tensor that is not contiguous
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
install safetensors==0.8.0 numpy==2.4.6
observe <<'PY'
import numpy as np
from safetensors.numpy import load, save
weights = np.arange(6, dtype=np.float32).reshape(2, 3)
for name, matrix in (("plain", weights), (".T", weights.T), ("copy", weights.T.copy())):
    back = load(save({"w": matrix}))["w"]
    print(name, *back.shape, "right" if np.array_equal(back, matrix) else "scrambled", end="; ")
PY
expect "plain 2 3 right; .T 3 2 scrambled; copy 3 2 right; "
