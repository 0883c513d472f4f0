"""Generators of synthetic images, one module per modality; called by `medsegdiff.data.synthetic`."""

__all__: list[str] = []
