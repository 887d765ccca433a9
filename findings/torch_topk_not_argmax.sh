#!/usr/bin/env bash
# Software: torch 2.14.1 (topk, argmax), scikit-learn 1.9.1 (top_k_accuracy_score), numpy 2.4.6
# Input: 5,000 x 1,000 random logits rounded to bfloat16; a label is the first of the largest logits,
#   or in 3 rows of 10 any class
# Guess: of equal logits topk takes the first, as argmax does; scikit-learn takes the last
# Seen: where the largest are equal, the first column of topk(5) is another class than argmax in more
#   than 1 row of 5. Top-1 of the same logits: by argmax over 0.4 points above topk(5), and over 1.5
#   points above scikit-learn
# Matters: half-precision logits of many classes have ties; how top-1 is computed moves it by more than
#   many a result that is reported
# vtrain: counts the first of equal logits as the likelier, in every figure
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
install torch==2.14.1 scikit-learn==1.9.1 numpy==2.4.6
observe <<'PY'
import torch
from sklearn.metrics import top_k_accuracy_score
dice = torch.Generator().manual_seed(0)
logits = (torch.randn(5000, 1000, generator=dice) * 3).bfloat16().float()
first, top5 = logits.argmax(1), logits.topk(5).indices[:, 0]
labels = torch.where(torch.rand(5000, generator=dice) < 0.7, first,
                     torch.randint(1000, (5000,), generator=dice))
tied = (logits == logits.amax(1, keepdim=True)).sum(1) > 1
by_argmax, by_topk = ((found == labels).double().mean().item() for found in (first, top5))
by_sklearn = top_k_accuracy_score(labels, logits, k=1, labels=range(1000))
print("topk(5) other class in more than 1 of 5 ties", (first != top5)[tied].double().mean().item() > 0.2,
      "only there", not (first != top5)[~tied].any(),
      "0.4 points", by_argmax - by_topk > 0.004, "1.5 points", by_argmax - by_sklearn > 0.015)
PY
expect "topk(5) other class in more than 1 of 5 ties True only there True 0.4 points True 1.5 points True"
