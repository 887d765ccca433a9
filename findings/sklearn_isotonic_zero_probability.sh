#!/usr/bin/env bash
# Software: scikit-learn 1.9.1 (CalibratedClassifierCV of a fitted classifier, log_loss), numpy 2.4.6
# Input: its digits: logistic regression on 718 images, calibrated on 539, judged on 540; five splits
# Guess: held-out log loss falls with isotonic calibration, and falls further with sigmoid
# Seen: in all five splits it rises with both and falls with temperature alone; isotonic gives the true
#   class of some images a probability of exactly 0 (log loss clips it to 2e-16 and says nothing)
# Matters: calibrating a multi-class model with the usual two methods made it worse, and without the
#   silent clip the log loss after isotonic would be infinite
# vtrain: fits one temperature, and says what it is worth on images that it was not fitted on
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
install scikit-learn==1.9.1 numpy==2.4.6
observe <<'PY'
import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
images, labels = load_digits(return_X_y=True)
worse, zeros = dict.fromkeys(("sigmoid", "isotonic", "temperature"), 0), 0
for seed in range(5):
    train, rest = train_test_split(np.arange(len(labels)), train_size=718, random_state=seed,
                                   stratify=labels)
    fit, test = train_test_split(rest, test_size=540, random_state=seed, stratify=labels[rest])
    model = LogisticRegression(max_iter=1000).fit(images[train] / 16, labels[train])
    before = log_loss(labels[test], model.predict_proba(images[test] / 16))
    for method in worse:
        calibrated = CalibratedClassifierCV(FrozenEstimator(model), method=method)
        probs = calibrated.fit(images[fit] / 16, labels[fit]).predict_proba(images[test] / 16)
        worse[method] += log_loss(labels[test], probs) > before
        if method == "isotonic":
            zeros += (probs[np.arange(len(test)), labels[test]] == 0).any()
print(*(f"{method}: worse in {n}" for method, n in worse.items()), f"zeros in {zeros}", sep="; ")
PY
expect "sigmoid: worse in 5; isotonic: worse in 5; temperature: worse in 0; zeros in 5"
