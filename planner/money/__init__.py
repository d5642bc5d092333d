"""What serving costs: prices, hardware, mixes of it, and ways to serve beside each other."""
