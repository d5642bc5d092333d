"""What the GPUs of this machine are doing."""
