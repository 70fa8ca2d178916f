"""A pretrained attention model becomes an attention/SSM hybrid: the steps of `train.hybridize`."""
