"""Systems, each in its folder, built from modules and wrapped public models."""

from models.load import load_extractor

__all__ = ["load_extractor"]
