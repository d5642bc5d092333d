"""Think ahead: a digital twin of the fleet, its capacity under SLO and what that costs."""
