"""Systems, each in its folder, built from modules and wrapped public models."""

from models.load import load_extractor, load_model

__all__ = ["load_extractor", "load_model"]
