"""What pages are put together from: shell, panels, tiles, bars, tables. Each is a function of values to components."""
