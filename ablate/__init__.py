"""Ablation studies for vision backbones; CONTRIBUTING.md lists the files in the order of a trial's life."""
