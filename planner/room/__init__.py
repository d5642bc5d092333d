"""How much a fleet carries under its promise: now, at the peak, with replicas gone, in the months to come."""
