"""Measure the engine: bursts for throughput, grids of steps for the planner's step-time model."""
