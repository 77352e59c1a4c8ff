"""Training face recognition models: backbones and their weights."""
