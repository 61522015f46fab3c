"""Private API of scikit-learn and PyTorch, one module for each.

That of skorch is used where its class is extended, in ``_training/net.py``.
"""
