"""Platforms: how steps are executed."""

from nnsim.platforms.reference import ReferencePlatform

__all__ = ["ReferencePlatform"]
