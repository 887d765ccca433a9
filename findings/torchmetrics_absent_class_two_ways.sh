#!/usr/bin/env bash
# Software: torchmetrics 1.9.0 (average_precision, auroc; macro average), torch 2.14.1
# Input: 300 rows of 4 probabilities; labels of the first three classes only
# Guess: the absent class is left out of average precision and counts as 0 in AUROC, either way
# Seen: average precision leaves it out with thresholds=None, and counts it as 0 with thresholds=100
#   (a quarter lower); AUROC counts it as 0 both ways
# Matters: `thresholds` is to save memory; on a validation set that lacks a rare class it also changes
#   the figure by 1 / classes, and the two metrics do not agree about the class
# vtrain: leaves an absent class out of both
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
install torchmetrics==1.9.0 torch==2.14.1
observe <<'PY'
import torch
from torchmetrics.functional import auroc, average_precision
dice = torch.Generator().manual_seed(0)
probs = torch.randn(300, 4, generator=dice).softmax(1)
labels = torch.randint(3, (300,), generator=dice)
for metric in (average_precision, auroc):
    for thresholds in (None, 100):
        given = dict(task="multiclass", num_classes=4, thresholds=thresholds)
        each = metric(probs, labels, average=None, **given)
        macro = metric(probs, labels, average="macro", **given)
        counted = abs(macro - each[:3].sum() / 4) < abs(macro - each[:3].mean())
        print(metric.__name__, thresholds, "counts as 0" if counted else "left out", end="; ")
PY
expect "average_precision None left out; average_precision 100 counts as 0; auroc None counts as 0; auroc 100 counts as 0; "
