"""What is done about an alert: a catalogue, what was asked and done, and the gateway that does it."""
