"""Scrape targets: what to scrape and when, one page at a time, all of them side by side."""
