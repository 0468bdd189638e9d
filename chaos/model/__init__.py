"""The model tier of the proof: the real loop and step on in-memory fakes, interleaved by a seeded scheduler."""

from chaos.model.explore import Exploration, Play, explore, replay

__all__ = ["Exploration", "Play", "explore", "replay"]
