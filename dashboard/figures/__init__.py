"""Pure builders of Plotly figures as plain dicts: series in, figure out. No Dash, no go.Figure."""
