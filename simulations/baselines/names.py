"""The baselines by name, and what each is: nothing here takes long to import."""

from __future__ import annotations

NEAREST, SVM, CNN = "nearest-neighbour", "svm", "cnn"
TEXTS = {
    NEAREST: "one nearest neighbour on raw pixels",
    SVM: "principal components and a support vector machine",
    CNN: "a small ResNet from scratch",
}
BASELINES = tuple(TEXTS)
DETERMINISTIC = (NEAREST, SVM)
"""Those in which nothing is drawn: of one split they give one answer."""
