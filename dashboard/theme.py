"""Colours that charts carry in their data. Everything else takes its colour from ``assets/20-app.css``.

Colour means state, blue means data. The series palette was searched in CAM02-UCS with protanopia, deuteranopia and
tritanopia simulated in full: smallest difference 11.7, contrast 3.0 to 5.9 on both surfaces, so one palette serves
both themes. Breach and warning colours are never used for a series.
"""

SERIES = ("#2F6FDE", "#93508D", "#476F5F", "#489BD8", "#839972", "#A67D96")
OTHER = "#6B7580"
BLUE = SERIES[0]
BREACH = "#C8401E"
WARN = "#B87A00"
OK = "#2F8F6B"
INK = "#6B7580"
GRID = "rgba(120,130,140,.18)"
LINE = "rgba(120,130,140,.35)"
NOW = "rgba(120,130,140,.6)"
EVENT = "#5B6670"
BAND = "rgba(47,111,222,.12)"
FONT_FAMILY = "IBM Plex Sans, system-ui, PingFang SC, Microsoft YaHei, Noto Sans CJK SC, Noto Sans SC, sans-serif"

PHASES = {"queue": "#A67D96", "prefill": "#93508D", "decode": "#2F6FDE", "other": "#6B7580"}
"""Where a request's time goes: the same colours in the stacked chart and in the waterfall."""
