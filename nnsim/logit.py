"""The logit of an accuracy a, kept finite: ln[p / (1 - p)] with p = EPSILON + (1 - 2 EPSILON) a."""

EPSILON = 1e-4  # the value of the papers' scripts
