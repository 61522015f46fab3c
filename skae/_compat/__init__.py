"""The only modules that use private API of scikit-learn, skorch and PyTorch."""
