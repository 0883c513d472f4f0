"""Networks: components, MedSegDiff V1 and V2 made of them, a plain U-Net, and `build`, which creates a network from a config."""

__all__: list[str] = []
