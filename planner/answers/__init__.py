"""Answers as report documents: what was found, in words, tables and charts; one file per question."""
