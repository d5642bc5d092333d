"""The pages, one per file, each with its layout beside its callback."""
