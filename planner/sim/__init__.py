"""The twin: the engine's own scheduler on modelled time, one instance per replica, behind a router."""

from planner.sim.simulate import Played, Twin, play, simulate

__all__ = ["Played", "Twin", "play", "simulate"]
